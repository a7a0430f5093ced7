// Once a second, one write and one read, each tried once: what an application without patience would have seen.

const EVERY = 1_000
const KEPT = 180

export class Pulse {
  constructor(database) {
    this.database = database
    this.beats = []
  }

  async start() {
    await this.database.write(({ sequelize }) =>
      sequelize.query('create table if not exists pulse (id int primary key, beaten_at timestamptz not null)'),
    )
    this.timer = setInterval(() => this.beat(), EVERY)
    this.beat()
  }

  stop() {
    clearInterval(this.timer)
  }

  beat() {
    const beat = { at: Date.now(), write: null, read: null }
    this.beats = [...this.beats, beat].slice(-KEPT)
    const write = this.database.write(
      ({ sequelize }) =>
        sequelize.query(
          'insert into pulse values (1, now()) on conflict (id) do update set beaten_at = excluded.beaten_at',
        ),
      0,
    )
    const read = this.database.read(({ sequelize }) => sequelize.query('select beaten_at from pulse'), 0)
    note(beat, 'write', write)
    note(beat, 'read', read).then(() => (beat.readFrom = this.database.readFrom()))
    this.database.lookForTheAway()
  }
}

// Until there is an answer, the entry stays empty.
async function note(beat, kind, attempt) {
  try {
    const { node, ms } = await attempt
    beat[kind] = { node, ms }
  } catch (error) {
    beat[kind] = { refused: error.message || error.name, ms: Date.now() - beat.at }
  }
}

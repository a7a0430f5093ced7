// The cluster as the application sees it: one place to write, several to read from, and patience.

import { AsyncLocalStorage } from 'node:async_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { Sequelize, ValidationError } from 'sequelize'

import { defineCountry } from './country.js'

// A failover takes seconds. A request that waits for it beats one that fails.
const PATIENCE = 30_000
const PAUSE = 250

// Which node answered, for whoever started the work.
const trace = new AsyncLocalStorage()

export class Database {
  // `settings` is what `cluster connect --format sequelize` printed. Sequelize could take it as it is, but its
  // `replication` deals read connections out to the nodes in turn, dead ones included, as long as a node is away. So
  // every server gets a Sequelize of its own, and a node that failed is asked again only when it has recovered.
  constructor({ replication, ...common }) {
    this.writer = new Server({ ...common, ...replication.write }, { writable: true })
    this.readers = replication.read.map((node) => new Server({ ...common, ...node }, { writable: false }))
    this.turn = 0
  }

  // Does `work` where writes go, again and again until it succeeds. A connection that broke does not say whether the
  // row was written before it broke: `work` must be such that twice is as good as once.
  write(work, patience = PATIENCE) {
    return persist(() => this.writer.run(work), patience)
  }

  // Does `work` on one of the nodes, and if that node does not answer, on the next.
  read(work, patience = PATIENCE) {
    return persist(async () => {
      let failure
      for (const reader of this.inTurn()) {
        try {
          return await reader.run(work)
        } catch (error) {
          if (isOwnFault(error)) throw error
          reader.away = true
          failure = error
        }
      }
      throw failure
    }, patience)
  }

  // The names of the nodes that reads go to.
  readFrom() {
    return this.readers.filter((reader) => reader.node && !reader.away).map((reader) => reader.node)
  }

  // The nodes that answer, each first once in a while; those that are away only when nobody else is left.
  inTurn() {
    const present = this.readers.filter((reader) => !reader.away)
    const first = this.turn++ % (present.length || 1)
    const away = this.readers.filter((reader) => reader.away)
    return [...present.slice(first), ...present.slice(0, first), ...away]
  }

  // Asks the nodes that are away whether they are back. Called once a second, so that no request has to find out.
  async lookForTheAway() {
    const away = this.readers.filter((reader) => reader.away && !reader.asked)
    await Promise.all(away.map((reader) => reader.ask()))
  }

  async close() {
    await Promise.allSettled([this.writer, ...this.readers].map((server) => server.sequelize.close()))
  }
}

// One address, with its connections.
class Server {
  constructor(settings, { writable }) {
    this.away = false
    this.asked = false
    this.sequelize = new Sequelize({ ...settings, logging: false })
    this.Country = defineCountry(this.sequelize)
    this.sequelize.addHook('afterConnect', async (connection) => {
      await introduce(connection, writable)
      this.node = connection.node
    })
    this.sequelize.addHook('beforeQuery', (_, query) => {
      const answer = trace.getStore()
      if (answer) answer.node = query.connection.node
    })
  }

  async run(work) {
    const answer = {}
    const value = await trace.run(answer, () => work(this))
    return { value, node: answer.node }
  }

  async ask() {
    this.asked = true
    try {
      await this.sequelize.query('select 1')
      this.away = false
    } catch {
      // Still away.
    } finally {
      this.asked = false
    }
  }
}

// A new connection says which node it leads to. Behind an address that has just moved there may be a node that is not
// promoted yet: such a connection is not let into the pool.
async function introduce(connection, writable) {
  try {
    const { rows } = await connection.query(
      "select current_setting('cluster_name') as node, pg_is_in_recovery() as standby",
    )
    if (writable && rows[0].standby) throw new Error(`${rows[0].node} does not take writes yet`)
    connection.node = rows[0].node
  } catch (error) {
    connection.end().catch(() => {})
    throw error
  }
}

async function persist(work, patience) {
  const begun = Date.now()
  for (let tries = 1; ; tries++) {
    try {
      return { ...(await work()), tries, ms: Date.now() - begun }
    } catch (error) {
      if (isOwnFault(error) || Date.now() + PAUSE - begun > patience) throw Object.assign(error, { tries })
      await sleep(PAUSE)
    }
  }
}

// Wrong data (SQLSTATE 22), a violated constraint (23) or wrong SQL (42) stay wrong. All else is an outage: a refused
// or a broken connection, a server that is silent, starting, stopping or read-only.
export function isOwnFault(error) {
  return error instanceof ValidationError || /^(22|23|42)/.test(error.original?.code ?? '')
}

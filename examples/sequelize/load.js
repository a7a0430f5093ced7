// Clients of the application that write and read without a pause, and count what they see. Runs until it is stopped
// (SIGINT or SIGTERM) or the time is over; then looks whether every row that was acknowledged is there.
//
//   npm run load -- [--url URL] [--writers N] [--readers N] [--seconds N] [--label TEXT] [--json]

import { readFile } from 'node:fs/promises'
import { env, exit } from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Op } from 'sequelize'

import { Database } from './database.js'

const { values: options } = parseArgs({
  options: {
    url: { type: 'string', default: 'http://127.0.0.1:3000' },
    writers: { type: 'string', default: '4' },
    readers: { type: 'string', default: '4' },
    seconds: { type: 'string', default: '600' },
    label: { type: 'string', default: 'load' },
    json: { type: 'boolean', default: false },
  },
})
const PAUSE = 20
const REQUEST_TIMEOUT = 60_000
const run = `test country ${Date.now().toString(36)}-`
const acknowledged = []
let running = true

// What the clients of one kind saw.
class Count {
  constructor() {
    this.answered = 0
    this.failed = 0
    this.slowest = 0
    this.longestGap = 0
    this.last = Date.now()
    this.nodes = {}
  }

  success(begun, node) {
    const now = Date.now()
    this.answered++
    this.slowest = Math.max(this.slowest, now - begun)
    this.longestGap = Math.max(this.longestGap, now - this.last)
    this.last = now
    this.nodes[node] = (this.nodes[node] ?? 0) + 1
  }

  // The time since the last success belongs to the gap as well.
  end() {
    this.longestGap = Math.max(this.longestGap, Date.now() - this.last)
    return { answered: this.answered, failed: this.failed, longest_gap_ms: this.longestGap, slowest_ms: this.slowest, nodes: this.nodes }
  }
}

async function client(count, request) {
  while (running) {
    const begun = Date.now()
    try {
      count.success(begun, await request())
    } catch (error) {
      count.failed++
      count.lastError = error.message
    }
    await sleep(PAUSE)
  }
}

async function ask(method, body) {
  const response = await fetch(`${options.url}/api/countries`, {
    method,
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(REQUEST_TIMEOUT),
  })
  const answer = await response.json()
  if (!response.ok) throw new Error(`${response.status} ${answer.error}`)
  return answer.answer.node
}

let number = 0
async function write() {
  const name = run + number++
  const node = await ask('POST', { name })
  acknowledged.push(name)
  return node
}

// Asks the node that takes writes, and takes the rows away again.
async function verify() {
  const database = new Database(JSON.parse(await readFile(env.DATABASE ?? new URL('database.json', import.meta.url))))
  const { value } = await database.write(async ({ Country }) => {
    const mine = { name: { [Op.startsWith]: run } }
    const rows = await Country.findAll({ where: mine, attributes: ['name'], raw: true })
    await Country.destroy({ where: mine })
    return new Set(rows.map((row) => row.name))
  })
  await database.close()
  return acknowledged.filter((name) => value.has(name)).length
}

const writes = new Count()
const reads = new Count()
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => (running = false))
setTimeout(() => (running = false), Number(options.seconds) * 1000).unref()
await Promise.all([
  ...Array.from({ length: Number(options.writers) }, () => client(writes, write)),
  ...Array.from({ length: Number(options.readers) }, () => client(reads, () => ask('GET'))),
])
const result = { label: options.label, writes: writes.end(), reads: reads.end() }
const present = await verify()
result.rows = { acknowledged: acknowledged.length, present, lost: acknowledged.length - present }

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`
const line = (name, { answered, failed, longest_gap_ms, slowest_ms, nodes }) =>
  `  ${name}  ${answered} answered, ${failed} failed; longest gap ${seconds(longest_gap_ms)}, slowest ${seconds(slowest_ms)}; ` +
  Object.entries(nodes).map(([node, count]) => `${node} ${count}`).join(', ')
console.log(
  options.json
    ? JSON.stringify(result)
    : [
        options.label,
        line('writes', result.writes),
        line('reads ', result.reads),
        `  rows    ${result.rows.acknowledged} acknowledged, ${result.rows.present} present afterwards, ${result.rows.lost} lost`,
      ].join('\n'),
)
for (const [name, count] of Object.entries({ writes, reads })) {
  if (count.lastError) console.error(`  the last ${name} that failed: ${count.lastError}`)
}
exit(result.rows.lost > 0 ? 1 : 0)

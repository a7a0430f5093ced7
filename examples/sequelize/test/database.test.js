import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

import { Database } from '../database.js'
import { FakeServer } from './fake-server.js'

const SILENCE = 300
let writer, first, second, database

beforeEach(async () => {
  writer = new FakeServer('pg1')
  first = new FakeServer('pg2')
  second = new FakeServer('pg1')
  database = new Database({
    dialect: 'postgres',
    databaseVersion: '15.0.0',
    username: 'app',
    password: 'secret',
    database: 'app',
    dialectOptions: { connectionTimeoutMillis: SILENCE, query_timeout: SILENCE },
    replication: { write: await writer.listen(), read: [await first.listen(), await second.listen()] },
  })
})

afterEach(async () => {
  for (const server of [writer, first, second]) {
    server.behaviour = 'breaks'
    server.close()
  }
  await Promise.race([database.close(), sleep(100)])
})

const ask = ({ sequelize }) => sequelize.query('select 42', { type: 'SELECT' })

test('reads go to the nodes in turn, and say which answered', async () => {
  const nodes = [await database.read(ask), await database.read(ask), await database.read(ask)].map((it) => it.node)
  assert.deepEqual(nodes, ['pg2', 'pg1', 'pg2'])
})

test('a node that is silent from the beginning costs one time-out, once', async () => {
  first.behaviour = 'silent'
  const { node, ms } = await database.read(ask)
  assert.equal(node, 'pg1')
  assert.ok(ms >= SILENCE && ms < 2 * SILENCE, `${ms} ms`)
  for (let i = 0; i < 5; i++) assert.ok((await database.read(ask)).ms < SILENCE / 2)
})

test('a node that falls silent on an open connection costs one time-out, and is used again when it is back', async () => {
  await database.read(ask)
  await database.read(ask)
  first.behaviour = 'silent'
  assert.equal((await database.read(ask)).node, 'pg1')
  assert.equal((await database.read(ask)).node, 'pg1')
  first.behaviour = 'answers'
  await database.lookForTheAway()
  const nodes = [await database.read(ask), await database.read(ask)].map((it) => it.node)
  assert.deepEqual(nodes.sort(), ['pg1', 'pg2'])
})

// Sequelize's own `replication` ends the whole process here.
test('a server that breaks right after the login is no reason to end', async () => {
  first.behaviour = 'breaks'
  assert.equal((await database.read(ask)).node, 'pg1')
})

test('a write waits for a server that breaks, and for one that is not promoted yet', async () => {
  writer.behaviour = 'breaks'
  setTimeout(() => Object.assign(writer, { behaviour: 'answers', standby: true, node: 'pg2' }), 400)
  setTimeout(() => (writer.standby = false), 800)
  const { node, tries, ms } = await database.write(ask)
  assert.equal(node, 'pg2')
  assert.ok(tries > 2 && ms >= 750, `${tries} tries, ${ms} ms`)
  assert.equal(writer.queries.filter((sql) => sql.includes('42')).length, 1, 'a standby was not asked to write')
})

test('patience has an end', async () => {
  writer.behaviour = 'breaks'
  await assert.rejects(database.write(ask, 600), (error) => error.tries > 1)
})

test("the application's own mistakes are not tried again", async () => {
  let tries = 0
  const wrong = () => {
    tries++
    throw Object.assign(new Error('duplicate key'), { original: { code: '23505' } })
  }
  await assert.rejects(database.write(wrong))
  await assert.rejects(database.read(wrong))
  assert.equal(tries, 2)
})

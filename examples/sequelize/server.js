// The application: a page, and the JSON that it is made of.
//
//   cluster connect -i INVENTORY --format sequelize --with-password --output database.json
//   npm start

import { readFile } from 'node:fs/promises'
import http from 'node:http'
import { env } from 'node:process'
import { ValidationError } from 'sequelize'

import { addCountry, firstCountries, prepareCountries } from './country.js'
import { Database } from './database.js'
import { Pulse } from './pulse.js'

const settings = JSON.parse(await readFile(env.DATABASE ?? new URL('database.json', import.meta.url)))
const database = new Database(settings)
const pulse = new Pulse(database)
const files = {
  '/': ['page.html', 'text/html'],
  '/page.css': ['page.css', 'text/css'],
  '/page.js': ['page.js', 'text/javascript'],
}

const routes = {
  'GET /api/countries': async () => {
    const { value, ...answer } = await firstCountries(database, 8)
    return [200, { countries: value.rows, count: value.count, answer }]
  },
  'POST /api/countries': async (request) => {
    const { name, is_eu_member } = await body(request)
    const country = { name: String(name ?? '').trim(), is_eu_member: Boolean(is_eu_member) }
    const { value, ...answer } = await addCountry(database, country)
    return [201, { country: value, answer }]
  },
  'GET /api/pulse': async () => [200, { now: Date.now(), beats: pulse.beats }],
}

async function body(request) {
  let text = ''
  for await (const chunk of request) {
    text += chunk
    if (text.length > 10_000) throw new SyntaxError('that is too long')
  }
  return JSON.parse(text) ?? {}
}

async function answer(request) {
  const { pathname } = new URL(request.url, 'http://localhost')
  if (request.method === 'GET' && files[pathname]) {
    const [file, type] = files[pathname]
    return [200, await readFile(new URL(file, import.meta.url)), type]
  }
  const route = routes[`${request.method} ${pathname}`]
  return route ? route(request) : [404, { error: 'there is nothing here' }]
}

// The client's mistakes are its own; everything else is the cluster's, and may be tried again.
function explain(error) {
  const mistaken = error instanceof ValidationError || error instanceof SyntaxError
  return [mistaken ? 400 : 503, { error: error.message, tries: error.tries }]
}

const server = http.createServer(async (request, response) => {
  const [status, content, type] = await answer(request).catch(explain)
  response.writeHead(status, {
    'content-type': `${type ?? 'application/json'}; charset=utf-8`,
    'cache-control': 'no-store',
    'content-security-policy': "default-src 'self'",
  })
  response.end(type ? content : JSON.stringify(content))
})

await prepareCountries(database)
await pulse.start()
server.listen(Number(env.PORT ?? 3000), env.HOST ?? '127.0.0.1', () => {
  const { address, port } = server.address()
  console.log(`http://${address}:${port}`)
})

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    pulse.stop()
    server.close()
    server.closeAllConnections()
    // A server that is away must not keep the program alive.
    Promise.race([database.close(), new Promise((done) => setTimeout(done, 2_000))]).then(() => process.exit())
  })
}

// A server that speaks just enough of PostgreSQL's protocol to log anybody in and to answer; and that can break.

import net from 'node:net'

function message(type, ...parts) {
  const body = Buffer.concat(parts.map((part) => (Buffer.isBuffer(part) ? part : Buffer.from(part))))
  const length = Buffer.alloc(4)
  length.writeInt32BE(body.length + 4)
  return Buffer.concat([Buffer.from(type), length, body])
}

const int16 = (number) => Buffer.from([number >> 8, number & 255])
const int32 = (number) => Buffer.from([number >> 24, number >> 16, number >> 8, number].map((it) => it & 255))
const TEXT = 25
const BOOLEAN = 16
const column = (name, type) => Buffer.concat([Buffer.from(`${name}\0`), int32(0), int16(0), int32(type), int16(-1), int32(-1), int16(0)])
const value = (text) => Buffer.concat([int32(text.length), Buffer.from(text)])
const ready = message('Z', 'I')
const welcome = Buffer.concat([
  message('R', int32(0)),
  message('S', 'server_version\x0015.0\0'),
  message('S', 'standard_conforming_strings\0on\0'),
  ready,
])

// `behaviour` can be changed at any time: `answers`, `silent`, or `breaks` (resets the connection at its first query).
export class FakeServer {
  constructor(node) {
    this.node = node
    this.standby = false
    this.behaviour = 'answers'
    this.queries = []
    this.connections = 0
    this.server = net.createServer((socket) => this.serve(socket))
  }

  async listen() {
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve))
    return { host: '127.0.0.1', port: this.server.address().port }
  }

  close() {
    this.server.close()
  }

  serve(socket) {
    this.connections++
    let greeted = false
    socket.on('error', () => {})
    socket.on('data', (data) => {
      if (this.behaviour === 'silent') return
      if (!greeted) {
        greeted = true
        socket.write(welcome)
      } else if (String.fromCharCode(data[0]) === 'Q') {
        if (this.behaviour === 'breaks') socket.resetAndDestroy()
        else socket.write(this.answer(data.toString('utf8', 5, data.length - 1)))
      }
    })
  }

  // Every answer says who this is.
  answer(sql) {
    this.queries.push(sql)
    return Buffer.concat([
      message('T', int16(2), column('node', TEXT), column('standby', BOOLEAN)),
      message('D', int16(2), value(this.node), value(this.standby ? 't' : 'f')),
      message('C', 'SELECT 1\0'),
      ready,
    ])
  }
}

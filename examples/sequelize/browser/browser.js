// Debian's Chromium without a window, spoken to through a pipe in its own protocol: all that a page needs to be driven.

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--hide-scrollbars',
  '--disable-quic',
  '--disable-dev-shm-usage',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--remote-debugging-pipe',
]

export class Browser {
  constructor(program = 'chromium') {
    this.profile = mkdtempSync(join(tmpdir(), 'browser-'))
    this.waiting = new Map()
    this.number = 0
    this.child = spawn(program, [...FLAGS, `--user-data-dir=${this.profile}`], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    })
    this.ended = new Promise((resolve) => this.child.once('exit', resolve))
    let rest = ''
    this.child.stdio[4].setEncoding('utf8').on('data', (chunk) => {
      const messages = (rest + chunk).split('\0')
      rest = messages.pop()
      messages.map(JSON.parse).forEach((message) => this.receive(message))
    })
  }

  receive({ id, result, error }) {
    const { resolve, reject } = this.waiting.get(id) ?? {}
    this.waiting.delete(id)
    if (error) reject?.(new Error(error.message))
    else resolve?.(result)
  }

  send(method, params = {}) {
    const id = ++this.number
    this.child.stdio[3].write(JSON.stringify({ id, method, params, sessionId: this.session }) + '\0')
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }))
  }

  async open(url, { width, height }) {
    const { targetId } = await this.send('Target.createTarget', { url })
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true })
    this.session = sessionId
    await this.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false })
  }

  // The value of an expression in the page.
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
    })
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text)
    return result.value
  }

  async screenshot() {
    const { data } = await this.send('Page.captureScreenshot', { format: 'png', captureBeyondViewport: true })
    return Buffer.from(data, 'base64')
  }

  async close() {
    this.session = undefined
    this.send('Browser.close').catch(() => {})
    await this.ended
    // Its helpers may still be writing.
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 })
  }
}

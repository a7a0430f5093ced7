// Looks at the page through a real browser, from commands on standard input, one a line:
//
//   see TEXT      waits until the page shows it (a minute at most)
//   add NAME      types a country's name and presses the button
//   shot FILE     takes a picture
//
// Answers each with one line; ends with the input, or with exit code 1 at the first that fails.

import { writeFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

import { Browser } from './browser.js'

const [url = 'http://127.0.0.1:3000'] = process.argv.slice(2)
const PATIENCE = 60_000

const browser = new Browser()
const commands = {
  async see(wanted) {
    const text = () => browser.evaluate("document.body?.innerText ?? ''")
    const begun = Date.now()
    while (!(await text()).includes(wanted)) {
      if (Date.now() - begun > PATIENCE) throw new Error(`the page does not show "${wanted}" but:\n${await text()}`)
      await sleep(200)
    }
    return `seen: ${wanted}`
  },
  async add(name) {
    await browser.evaluate(`(() => {
      const form = document.getElementById('add')
      form.elements.name.value = ${JSON.stringify(name)}
      form.requestSubmit()
    })()`)
    return `added: ${name}`
  },
  async shot(file) {
    await writeFile(file, await browser.screenshot())
    return `picture: ${file}`
  },
}

try {
  await browser.open(url, { width: 960, height: 1000 })
  for await (const line of createInterface({ input: process.stdin })) {
    const [, command, argument] = line.match(/^(\w+) (.*)$/) ?? []
    if (!commands[command]) throw new Error(`not a command: ${line}`)
    console.log(await commands[command](argument))
  }
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
} finally {
  await browser.close()
}

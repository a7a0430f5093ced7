// Draws what the server has seen: who answers now, and who answered when.

const WINDOW = 180
const find = (id) => document.getElementById(id)

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties)
  made.append(...children)
  return made
}

const seconds = (ms) => (ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`)
const clock = (at) => new Date(at).toLocaleTimeString([], { hour12: false })

// Each node keeps its colour for as long as the page is open.
const nodes = []
function colour(name) {
  if (name.includes(' + ')) return 'var(--both)'
  if (!nodes.includes(name)) nodes.push(name)
  return `var(--node-${nodes.indexOf(name) % 3})`
}

// What a beat came to: a node's name, `refused`, or nothing yet.
const outcome = (entry) => entry && (entry.node ?? 'refused')

// Reads go to several nodes in turn: not the one that happened to answer matters, but which ones are in turn.
function readers({ read, readFrom }) {
  return read?.node ? (readFrom?.toSorted().join(' + ') ?? read.node) : outcome(read)
}

// Neighbours of the same kind become one run.
function runs(beats, kind) {
  const list = []
  beats.forEach((beat) => {
    const what = kind === 'read' ? readers(beat) : outcome(beat.write)
    const last = list.at(-1)
    if (last?.what === what) last.beats++
    else list.push({ what, at: beat.at, beats: 1 })
  })
  list.forEach((run, index) => (run.ms = (list[index + 1]?.at ?? beats.at(-1).at + 1000) - run.at))
  return list
}

function describe({ what, ms }) {
  if (!what) return ''
  return what === 'refused' ? `none for ${seconds(ms)}` : what
}

function drawStrip(kind, list) {
  const empty = WINDOW - list.reduce((sum, run) => sum + run.beats, 0)
  const strip = find(`${kind}-strip`)
  strip.replaceChildren(
    ...[{ beats: empty }, ...list]
      .filter((run) => run.beats > 0)
      .map((run) => {
        const fits = (text) => run.beats >= text.length * 1.9 + 2
        const text = [describe(run), run.what === 'refused' ? seconds(run.ms) : ''].find(fits) ?? ''
        const drawn = element('span', { className: 'run', title: describe(run), textContent: text })
        drawn.classList.toggle('short', !text)
        drawn.classList.toggle('refused', run.what === 'refused')
        drawn.style.setProperty('--beats', run.beats)
        if (run.what && run.what !== 'refused') drawn.style.setProperty('--colour', colour(run.what))
        return drawn
      }),
  )
  const words = list.filter((run) => run.what).map((run) => `${describe(run)}${run.what === 'refused' ? '' : ` for ${seconds(run.ms)}`}`)
  strip.ariaLabel = `${kind}s, oldest first: ${words.join(', ')}`
}

function drawCard(kind, list, beats) {
  const card = find(`${kind}-now`)
  const known = list.filter((run) => run.what).at(-1)
  if (!known) return
  const refused = known.what === 'refused'
  const last = beats.findLast((beat) => outcome(beat[kind]))[kind]
  card.classList.toggle('refused', refused)
  card.style.setProperty('--colour', refused ? 'var(--bad)' : colour(known.what))
  card.querySelector('.state').textContent = refused ? 'nobody answers' : known.what
  card.querySelector('.detail').textContent = refused
    ? `for ${seconds(Date.now() - known.at)}; new writes wait`
    : `answered in ${last.ms} ms`
}

function drawEvents(all) {
  const events = []
  for (const [kind, list] of Object.entries(all)) {
    const title = kind === 'write' ? 'Writes' : 'Reads'
    const known = list.filter((run) => run.what)
    known.forEach((run, index) => {
      const before = known[index - 1]
      const after = known[index + 1]
      if (run.what === 'refused') {
        const end = after ? `, then ${after.what} took over` : ' so far'
        events.push({ at: run.at, text: `${title}: nobody answered for ${seconds(after ? run.ms : Date.now() - run.at)}${end}` })
      } else if (before && before.what !== 'refused' && run.beats > 1) {
        events.push({ at: run.at, text: `${title}: ${run.what}, before it was ${before.what}` })
      }
    })
  }
  events.sort((a, b) => b.at - a.at)
  const items = events.slice(0, 5).map(({ at, text }) => element('li', {}, element('time', { textContent: clock(at) }), text))
  const quiet = [element('li', { textContent: 'Nothing has happened: every attempt was answered.' })]
  const list = find('events')
  const drawn = element('ol', {}, ...(items.length ? items : quiet))
  // Announced to a screen reader only when it has changed.
  if (list.innerHTML !== drawn.innerHTML) list.replaceChildren(...drawn.childNodes)
}

async function drawPulse() {
  const { beats } = await (await fetch('/api/pulse')).json()
  const names = beats.flatMap((beat) => [beat.write?.node, beat.read?.node]).filter(Boolean)
  for (const name of [...new Set(names)].sort()) colour(name)
  const all = { write: runs(beats, 'write'), read: runs(beats, 'read') }
  for (const kind of ['write', 'read']) {
    drawStrip(kind, all[kind])
    drawCard(kind, all[kind], beats)
  }
  drawEvents(all)
}

async function drawCountries() {
  const response = await fetch('/api/countries')
  const { countries, count, answer, error } = await response.json()
  if (!response.ok) throw new Error(error)
  find('source').textContent = `${countries.length} of ${count}, read from ${answer.node} in ${answer.ms} ms`
  find('rows').replaceChildren(
    ...countries.map(({ name, is_eu_member }) =>
      element('tr', {}, element('td', { textContent: name }), element('td', { textContent: is_eu_member ? 'yes' : 'no' })),
    ),
  )
}

async function add(form) {
  const name = form.elements.name.value.trim()
  const begun = Date.now()
  const tell = (text) => (find('added').textContent = text)
  const waiting = setInterval(() => tell(`Writing ${name} … ${seconds(Date.now() - begun)}`), 200)
  form.querySelector('button').disabled = true
  try {
    const response = await fetch('/api/countries', {
      method: 'POST',
      body: JSON.stringify({ name, is_eu_member: form.elements.is_eu_member.checked }),
    })
    const { answer, error } = await response.json()
    if (!response.ok) throw new Error(error)
    const tries = answer.tries > 1 ? `, after ${answer.tries} tries` : ''
    const took = answer.ms < 1000 ? `${answer.ms} ms` : seconds(answer.ms)
    tell(`${name} was written by ${answer.node} in ${took}${tries}.`)
    form.reset()
  } catch (error) {
    tell(`${name} was not written: ${error.message}`)
  } finally {
    clearInterval(waiting)
    form.querySelector('button').disabled = false
  }
}

// Draws now and then again, one after the other; a server that is away for a moment is asked again.
async function keep(draw, every) {
  await draw().catch(() => {})
  setTimeout(keep, every, draw, every)
}

find('add').addEventListener('submit', (event) => {
  event.preventDefault()
  add(event.target).then(drawCountries)
})
keep(drawPulse, 1000)
keep(drawCountries, 2000)

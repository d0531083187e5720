// cloudevents for Node, unmodified, against a running server: its emitter in both modes, batches, and retries that count once.
//
// The SDK's transport tells no status and sends nothing twice: what was not answered with success is emitted again here, as an
// application would. tests/sdk/run.sh sets up the SDK and calls this. Exit codes: 0 passed, 1 failed, 2 could not run.

import { randomUUID } from 'node:crypto'
import { Platform, check, load, pause, run as runTests, to, writeKey } from './support.mjs'

const { CloudEvent, Mode, emitterFor, httpTransport } = load('cloudevents')

const SOURCE = 'https://example.com/sdk'
const TRIES = 10
const WAIT_MS = 50
const SUCCESS = '{"success":true}'
const headers = { Authorization: `Basic ${Buffer.from(`${writeKey}:`).toString('base64')}` }

// Emits until it is taken.
async function untilTaken(emit) {
  for (let tried = 0; tried < TRIES; tried++) {
    const answer = await emit().catch(() => undefined)
    if (answer?.body === SUCCESS) return
    check(!answer || answer.body.includes('"unavailable"'), `the server says ${answer?.body}`)
    await pause(1000 * Number(answer?.headers['retry-after'] ?? 0) || WAIT_MS)
  }
  check(false, `not taken in ${TRIES} tries`)
}

async function sentBy(host, way, calls) {
  const events = []
  calls(events)
  const send = httpTransport(`${host}/v1/cloudevents`)
  if (way === 'batch') {
    const batch = { headers: { 'content-type': 'application/cloudevents-batch+json' }, body: JSON.stringify(events) }
    return untilTaken(() => send(batch, { headers }))
  }
  const emit = emitterFor(send, { mode: way === 'binary' ? Mode.BINARY : Mode.STRUCTURED })
  for (const event of events) await untilTaken(() => emit(event, { headers }))
}

async function everyCall(way) {
  const run = randomUUID().slice(0, 12)
  const platform = await Platform.now()
  const [user, author, post] = [`reader-${run}`, `author-${run}`, `post-${run}`]
  const time = new Date().toISOString()
  await sentBy(to, way, (events) => {
    const event = (name, type, data, attributes) =>
      events.push(new CloudEvent({ id: `${run}-${name}`, source: SOURCE, time, type, data, ...attributes }))
    event('created', 'Post Created', { post_id: post, text: 'Grüße, „Zoë“ 100 %', tags: ['sdk'] }, { userid: author })
    event('liked', 'postLiked', {}, { subject: post, userid: user })
    event('viewed', 'Post Viewed', { post_id: post, dwell_ms: 1200, userId: user })
    event('custom', 'com.example.signup', { n: 1.5 }, { anonymousid: `anon-${run}` })
    event('bytes', 'com.example.blob', new Uint8Array([0, 255]), { userid: user, datacontenttype: 'application/octet-stream' })
  })
  const expected = {
    created: [author, 'post_created'],
    liked: [user, 'post_liked'],
    viewed: [user, 'post_viewed'],
    custom: [undefined],
    bytes: [user],
  }
  const found = {}
  for (const [name, [who, event]] of Object.entries(expected)) {
    const records = await platform.withId(`${run}-${name}`)
    check(records.length === 1, `${name} is in the log ${records.length} times`)
    const record = (found[name] = records[0])
    check(record.message_id === `${SOURCE} ${run}-${name}`, `the id of ${name} is ${record.message_id}`)
    check(record.type === 'track', `${name} came in as ${record.type}`)
    check((record.user_id || undefined) === who, `${name} is by ${record.user_id}`)
    check(event === undefined || record.event === event, `${name} is called ${record.event}`)
    check(new Date(record.event_time).toISOString() === time, `${name} happened at ${record.event_time}, not at ${time}`)
  }
  check(found.created.properties.text === 'Grüße, „Zoë“ 100 %', `the text is ${found.created.properties.text}`)
  check(found.custom.anonymous_id === `anon-${run}`, 'the anonymous id is kept')
  check(found.bytes.properties.data_base64 === 'AP8=', `the bytes are ${JSON.stringify(found.bytes.properties)}`)
  const { author_id, totals } = await platform.engagement(post)
  check(author_id === author, `the author is ${author_id}`)
  const counts = [totals.likes, totals.views, totals.unique_viewers]
  check(counts.join() === '1,1,1', `likes, views and unique viewers are ${counts}`)
}

const track = (events, userid, type, data, id) => events.push(new CloudEvent({ id, source: SOURCE, type, data, userid }))

await runTests('cloudevents-node', { calls: everyCall, sentBy, track, ways: ['binary', 'structured', 'batch'] })

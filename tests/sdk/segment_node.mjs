// @segment/analytics-node, unmodified, against a running server: six calls, and retries that count once.
//
// tests/sdk/run.sh sets up the SDK and calls this; MILLRACE_SDK_DIR is the folder with its node_modules.
// The SDK itself never compresses: the gzip runs hand it a fetch that does, which is a setting of its own.
// Exit codes: 0 passed, 1 failed, 2 could not run.

import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'
import { gzipSync } from 'node:zlib'

const env = process.env
const to = env.MILLRACE_TO ?? 'http://127.0.0.1:8080'
const writeKey = env.MILLRACE_WRITE_KEY ?? 'dev'
const WAIT_MS = 30_000
const PAGE = 1000

let Analytics
try {
  const require = createRequire(path.join(path.resolve(env.MILLRACE_SDK_DIR ?? '.'), 'package.json'))
  Analytics = require('@segment/analytics-node').Analytics
} catch {
  console.error('the Segment SDK is not there: run tests/sdk/run.sh')
  process.exit(2)
}

class Failed extends Error {}

function check(condition, text) {
  if (!condition) throw new Failed(text)
}

async function get(url, token) {
  const response = await fetch(`${to}${url}`, { headers: token ? { Authorization: `Bearer ${token}` } : {} })
  const body = await response.text()
  check(response.status === 200, `GET ${url}: ${response.status} ${body.slice(0, 200)}`)
  return { response, body }
}

const json = async (url) => JSON.parse((await get(url, env.MILLRACE_API_TOKEN)).body)

// What the server says, for comparison. Reads only what was appended since this object was made.
class Platform {
  static async now() {
    const platform = new Platform()
    const { actions } = (await json('/v1/status')).log
    platform.places = Object.fromEntries(Object.entries(actions).map(([partition, held]) => [partition, held.end]))
    platform.records = []
    return platform
  }

  async readOn() {
    for (const partition of Object.keys(this.places)) {
      for (;;) {
        const at = this.places[partition]
        const url = `/v1/log/actions?partition=${partition}&from=${at}&limit=${PAGE}`
        const { response, body } = await get(url, env.MILLRACE_ADMIN_TOKEN)
        const records = body.split('\n').filter(Boolean).map((line) => JSON.parse(line))
        this.records.push(...records.filter((record) => record.type !== 'tick'))
        this.places[partition] = Number(response.headers.get('x-millrace-next-offset'))
        if (this.places[partition] <= at) break
      }
    }
    return this.records
  }

  async withId(id) {
    return (await this.readOn()).filter((record) => record.message_id === id)
  }

  async engagement(post) {
    const deadline = Date.now() + WAIT_MS
    while (!(await json('/v1/status')).caught_up) {
      check(Date.now() < deadline, 'the jobs do not catch up')
      await new Promise((done) => setTimeout(done, 50))
    }
    return json(`/v1/posts/${encodeURIComponent(post)}/engagement`)
  }
}

// Hands requests on to the server; the first `times` answers are lost on the way back, after the server took the batch.
async function flakyProxy(mode, times) {
  let left = times
  const seen = { requests: 0 }
  const server = http.createServer(async (request, response) => {
    seen.requests += 1
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    const { host, connection, ...headers } = request.headers
    delete headers['content-length']
    delete headers['transfer-encoding']
    const answer = await fetch(`${to}${request.url}`, { method: 'POST', headers, body: Buffer.concat(chunks) })
    const body = await answer.text()
    if (left > 0) {
      left -= 1
      if (mode === 'drop') return request.socket.destroy()
      response.writeHead(503, { 'Content-Type': 'application/json' })
      return response.end('{"code":"unavailable","message":"the answer was lost"}')
    }
    response.writeHead(answer.status, { 'Content-Type': 'application/json' })
    response.end(body)
  })
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  const close = () => {
    server.closeAllConnections()
    return new Promise((done) => server.close(done))
  }
  return { url: `http://127.0.0.1:${server.address().port}`, seen, close }
}

const zipped = (url, init) =>
  fetch(url, { ...init, headers: { ...init.headers, 'Content-Encoding': 'gzip' }, body: gzipSync(init.body) })

async function sentBy(host, gzip, calls) {
  const analytics = new Analytics({ writeKey, host, flushAt: 100, ...(gzip ? { httpClient: zipped } : {}) })
  const errors = []
  analytics.on('error', (error) => errors.push(error.reason ?? error))
  calls(analytics)
  await analytics.closeAndFlush({ timeout: WAIT_MS })
  check(errors.length === 0, `the SDK reports ${errors}`)
}

async function sixCalls(gzip) {
  const run = randomUUID().slice(0, 12)
  const platform = await Platform.now()
  const user = `reader-${run}`
  const author = `author-${run}`
  const post = `post-${run}`
  await sentBy(to, gzip, (analytics) => {
    const id = (name) => ({ messageId: `${run}-${name}` })
    analytics.identify({ userId: user, traits: { plan: 'free', name: 'Zoë' }, ...id('identify') })
    analytics.track({ userId: author, event: 'Post Created', properties: { post_id: post, text: 'hello', tags: ['sdk'] }, ...id('created') })
    analytics.track({ userId: user, event: 'postLiked', properties: { post_id: post }, ...id('liked') })
    analytics.track({ userId: user, event: 'Post Viewed', properties: { post_id: post, dwell_ms: 1200 }, ...id('viewed') })
    analytics.track({ anonymousId: `anon-${run}`, event: 'Signup Started', properties: { n: 1.5 }, ...id('custom') })
    analytics.page({ userId: user, category: 'docs', name: 'Start', properties: { path: '/start' }, ...id('page') })
    analytics.screen({ userId: user, category: 'app', name: 'Home', properties: { n: 1 }, ...id('screen') })
    analytics.group({ userId: user, groupId: `team-${run}`, traits: { size: 3 }, ...id('group') })
    analytics.alias({ userId: user, previousId: `anon-${run}`, ...id('alias') })
  })
  const expected = {
    identify: ['identify', user],
    created: ['track', author, 'post_created'],
    liked: ['track', user, 'post_liked'],
    viewed: ['track', user, 'post_viewed'],
    custom: ['track', undefined, 'signup_started'],
    page: ['page', user],
    screen: ['screen', user],
    group: ['group', user],
    alias: ['alias', user],
  }
  const found = {}
  for (const [name, [type, who, event]] of Object.entries(expected)) {
    const records = await platform.withId(`${run}-${name}`)
    check(records.length === 1, `${name} is in the log ${records.length} times`)
    const record = (found[name] = records[0])
    check(record.type === type, `${name} came in as ${record.type}`)
    check((record.user_id || undefined) === who, `${name} is by ${record.user_id}`)
    check(event === undefined || record.event === event, `${name} is called ${record.event}`)
  }
  check(found.custom.anonymous_id === `anon-${run}`, 'the anonymous id is kept')
  check(found.group.group_id === `team-${run}`, 'the group id is kept')
  check(found.alias.previous_id === `anon-${run}`, 'the previous id is kept')
  const { author_id, totals } = await platform.engagement(post)
  check(author_id === author, `the author is ${author_id}`)
  const counts = [totals.likes, totals.views, totals.unique_viewers]
  check(counts.join() === '1,1,1', `likes, views and unique viewers are ${counts}`)
}

async function aRetryCountsOnce(gzip, mode, times) {
  const run = randomUUID().slice(0, 12)
  const platform = await Platform.now()
  const post = `post-${run}`
  const proxy = await flakyProxy(mode, times)
  try {
    await sentBy(proxy.url, gzip, (analytics) => {
      analytics.track({ userId: `author-${run}`, event: 'post_created', properties: { post_id: post, text: 'hello' }, messageId: `${run}-0` })
      for (let n = 1; n <= 20; n++) {
        const properties = { post_id: post, text: 'x' }
        analytics.track({ userId: `reader-${run}-${n % 5}`, event: 'post_commented', properties, messageId: `${run}-${n}` })
      }
      analytics.track({ userId: `author-${run}`, event: 'post_shared', properties: { post_id: post }, messageId: `${run}-21` })
    })
  } finally {
    await proxy.close()
  }
  check(proxy.seen.requests > times, `the SDK sent ${proxy.seen.requests} requests: no retry took place`)
  const copies = []
  for (let n = 0; n <= 21; n++) copies.push((await platform.withId(`${run}-${n}`)).length)
  check(Math.min(...copies) >= 1, `an event is missing from the log: ${copies}`)
  check(Math.max(...copies) >= 1 + times, `the log holds no duplicate, so this proved nothing: ${copies}`)
  const { totals } = await platform.engagement(post)
  check(totals.comments === 20 && totals.shares === 1, `comments and shares are ${totals.comments} and ${totals.shares}, not 20 and 1`)
}

const tests = [['six calls', sixCalls]]
for (const [mode, times] of [['drop', 1], ['503', 2]]) {
  tests.push([`a retry counts once (${mode}, ${times} answers lost)`, (gzip) => aRetryCountsOnce(gzip, mode, times)])
}
let failed = 0
for (const [name, test] of tests) {
  for (const gzip of [false, true]) {
    const label = `segment-node: ${name}${gzip ? ', gzip' : ''}`
    try {
      await test(gzip)
      console.log(`ok      ${label}`)
    } catch (error) {
      if (!(error instanceof Failed)) {
        console.error(`segment-node: cannot run: ${error.cause ?? error}`)
        process.exit(2)
      }
      failed += 1
      console.log(`FAILED  ${label}: ${error.message}`)
    }
  }
}
process.exit(failed ? 1 : 0)

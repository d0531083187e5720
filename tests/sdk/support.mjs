// What the tests of SDKs for Node share: what the server says, and a proxy that loses answers.

import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'

const env = process.env
export const to = env.MILLRACE_TO ?? 'http://127.0.0.1:8080'
export const writeKey = env.MILLRACE_WRITE_KEY ?? 'dev'
export const WAIT_MS = 30_000
const PAGE = 1000

// The SDK in MILLRACE_SDK_DIR, the folder with its node_modules.
export function load(sdk) {
  try {
    return createRequire(path.join(path.resolve(env.MILLRACE_SDK_DIR ?? '.'), 'package.json'))(sdk)
  } catch {
    console.error(`${sdk} is not there: run tests/sdk/run.sh`)
    process.exit(2)
  }
}

class Failed extends Error {}

export function check(condition, text) {
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
export class Platform {
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

// Loses answers, so that the SDK sends again what has arrived, and compares the counters.
async function aRetryCountsOnce(gzip, mode, times, sentBy, track) {
  const run = randomUUID().slice(0, 12)
  const platform = await Platform.now()
  const [author, post] = [`author-${run}`, `post-${run}`]
  const ids = Array.from({ length: 22 }, () => randomUUID())
  const proxy = await flakyProxy(mode, times)
  try {
    await sentBy(proxy.url, gzip, (client) => {
      track(client, author, 'post_created', { post_id: post, text: 'hello' }, ids[0])
      for (let n = 1; n <= 20; n++) track(client, `reader-${run}-${n % 5}`, 'post_commented', { post_id: post, text: 'x' }, ids[n])
      track(client, author, 'post_shared', { post_id: post }, ids[21])
    })
  } finally {
    await proxy.close()
  }
  check(proxy.seen.requests > times, `the SDK sent ${proxy.seen.requests} requests: no retry took place`)
  const copies = []
  for (const id of ids) copies.push((await platform.withId(id)).length)
  check(Math.min(...copies) >= 1, `an event is missing from the log: ${copies}`)
  check(Math.max(...copies) >= 1 + times, `the log holds no duplicate, so this proved nothing: ${copies}`)
  const { totals } = await platform.engagement(post)
  check(totals.comments === 20 && totals.shares === 1, `comments and shares are ${totals.comments} and ${totals.shares}, not 20 and 1`)
}

// Runs all tests, plain and compressed, says how it went, and ends the process.
export async function run(sdk, { calls, sentBy, track }) {
  const tests = [['every call', calls]]
  for (const [mode, times] of [['drop', 1], ['503', 2]]) {
    tests.push([`a retry counts once (${mode}, ${times} answers lost)`, (gzip) => aRetryCountsOnce(gzip, mode, times, sentBy, track)])
  }
  let failed = 0
  for (const [name, test] of tests) {
    for (const gzip of [false, true]) {
      const label = `${sdk}: ${name}${gzip ? ', gzip' : ''}`
      try {
        await test(gzip)
        console.log(`ok      ${label}`)
      } catch (error) {
        if (!(error instanceof Failed)) {
          console.error(`${sdk}: cannot run: ${error.cause ?? error}`)
          process.exit(2)
        }
        failed += 1
        console.log(`FAILED  ${label}: ${error.message}`)
      }
    }
  }
  process.exit(failed ? 1 : 0)
}

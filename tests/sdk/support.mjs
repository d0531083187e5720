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

export class Failed extends Error {}

export function check(condition, text) {
  if (!condition) throw new Failed(text)
}

export async function until(isTrue, what) {
  const deadline = Date.now() + WAIT_MS
  while (!(await isTrue())) {
    check(Date.now() < deadline, `waited ${WAIT_MS / 1000} s for: ${what}`)
    await pause(50)
  }
}

export const pause = (ms) => new Promise((done) => setTimeout(done, ms))

async function get(url, token) {
  const response = await fetch(`${to}${url}`, { headers: token ? { Authorization: `Bearer ${token}` } : {} })
  const body = await response.text()
  check(response.status === 200, `GET ${url}: ${response.status} ${body.slice(0, 200)}`)
  return { response, body }
}

export const json = async (url) => JSON.parse((await get(url, env.MILLRACE_API_TOKEN)).body)

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
    await this.readOn()
    return this.known(id)
  }

  // The records read so far. The id of a CloudEvent has its source before it.
  known(id) {
    return this.records.filter((record) => record.message_id?.split(' ').at(-1) === id)
  }

  // Until the jobs have done what was sent so far; what others send meanwhile is not waited for.
  async settle() {
    // How much stage 1 publishes for the others is known once it is done.
    for (const isAwaited of [(job) => job === 'stage-one', () => true]) {
      const ends = Object.entries((await json('/v1/status')).jobs).filter(([job]) => isAwaited(job))
      await until(async () => {
        const { jobs } = await json('/v1/status')
        return ends.every(([job, partitions]) => Object.entries(partitions).every(([p, { end }]) => jobs[job][p].committed >= end))
      }, 'the jobs catch up')
    }
  }

  async engagement(post) {
    await this.settle()
    return json(`/v1/posts/${encodeURIComponent(post)}/engagement`)
  }
}

// Hands requests on to the server; the first `times` answers are lost on the way back, after the server took the batch.
//
// Mode `drop`: the connection is closed instead of an answer; `503`: a 503 instead; `503-wait`: the same with Retry-After;
// `shut`: the same, and the server never sees the request. What a browser asks before it sends is handed on always.
export async function flakyProxy(mode, times) {
  let left = mode ? times : 0
  const seen = { requests: 0, preflights: 0, zipped: 0 }
  const server = http.createServer(async (request, response) => {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    const isSending = request.method === 'POST'
    const isLost = isSending && left > 0
    if (isSending) seen.requests += 1
    if (request.method === 'OPTIONS') seen.preflights += 1
    if (request.headers['content-encoding'] === 'gzip') seen.zipped += 1
    if (isLost) left -= 1
    const { host, connection, ...headers } = request.headers
    delete headers['content-length']
    delete headers['transfer-encoding']
    const body = Buffer.concat(chunks)
    const handOn = () => fetch(`${to}${request.url}`, { method: request.method, headers, body: isSending ? body : undefined })
    const answer = isLost && mode === 'shut' ? { headers: new Headers() } : await handOn()
    if (isLost && mode === 'drop') return request.socket.destroy()
    const kept = [...answer.headers].filter(([name]) => /^(access-control-|vary$|retry-after$|content-type$)/.test(name))
    if (!isLost) {
      response.writeHead(answer.status, Object.fromEntries(kept))
      return response.end(Buffer.from(await answer.arrayBuffer()))
    }
    const wait = mode === '503' ? {} : { 'Retry-After': '1' }
    const { origin } = request.headers
    const shown = origin ? { 'Access-Control-Allow-Origin': origin, 'Access-Control-Expose-Headers': 'retry-after' } : {}
    response.writeHead(503, { 'Content-Type': 'application/json', ...shown, ...wait })
    response.end('{"code":"unavailable","message":"the answer was lost"}')
  })
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  const close = () => {
    server.closeAllConnections()
    return new Promise((done) => server.close(done))
  }
  return { url: `http://127.0.0.1:${server.address().port}`, seen, close }
}

// How answers are lost, and how many.
export const LOSSES = [
  ['drop', 1],
  ['503', 2],
  ['503-wait', 1],
  ['shut', 2],
]

// Loses answers, so that the SDK sends again what has arrived, and compares the counters.
async function aRetryCountsOnce(way, mode, times, sentBy, track) {
  const run = randomUUID().slice(0, 12)
  const platform = await Platform.now()
  const [author, post] = [`author-${run}`, `post-${run}`]
  const ids = Array.from({ length: 22 }, () => randomUUID())
  const proxy = await flakyProxy(mode, times)
  try {
    await sentBy(proxy.url, way, (client) => {
      track(client, author, 'post_created', { post_id: post, text: 'hello' }, ids[0])
      for (let n = 1; n <= 20; n++) track(client, `reader-${run}-${n % 5}`, 'post_commented', { post_id: post, text: 'x' }, ids[n])
      track(client, author, 'post_shared', { post_id: post }, ids[21])
    })
  } finally {
    await proxy.close()
  }
  check(proxy.seen.requests > times, `the SDK sent ${proxy.seen.requests} requests: no retry took place`)
  check(way !== 'gzip' || proxy.seen.zipped === proxy.seen.requests, 'every request was compressed')
  await platform.readOn()
  checkCopies(ids.map((id) => platform.known(id).length), mode, times)
  const { totals } = await platform.engagement(post)
  check(totals.comments === 20 && totals.shares === 1, `comments and shares are ${totals.comments} and ${totals.shares}, not 20 and 1`)
}

// `copies`: how often the log has each event, after `times` answers were lost in `mode`.
export function checkCopies(copies, mode, times) {
  check(Math.min(...copies) >= 1, `an event is missing from the log: ${copies}`)
  if (mode === 'shut') check(Math.max(...copies) === 1, `an event was sent again that had been taken: ${copies}`)
  else check(Math.max(...copies) >= 1 + times, `the log holds no duplicate, so this proved nothing: ${copies}`)
}

// Runs all tests, in each of the ways that the SDK sends, says how it went, and ends the process.
export async function run(sdk, { calls, sentBy, track, ways = ['plain', 'gzip'] }) {
  const tests = [['every call', calls]]
  for (const [mode, times] of LOSSES) {
    tests.push([`a retry counts once (${mode}, ${times} answers lost)`, (way) => aRetryCountsOnce(way, mode, times, sentBy, track)])
  }
  process.exit(await runTests(sdk, tests.flatMap(([name, test]) => ways.map((way) => [`${name}, ${way}`, () => test(way)]))))
}

// Runs named tests and says how each went: 1 when something failed, 0 otherwise.
export async function runTests(sdk, tests) {
  let failed = 0
  for (const [name, test] of tests) {
    try {
      await test()
      console.log(`ok      ${sdk}: ${name}`)
    } catch (error) {
      if (!(error instanceof Failed)) {
        console.error(`${sdk}: cannot run: ${error.cause ?? error.stack ?? error}`)
        process.exit(2)
      }
      failed += 1
      console.log(`FAILED  ${sdk}: ${name}: ${error.message}`)
    }
  }
  return failed ? 1 : 0
}

// @segment/analytics-node, unmodified, against a running server: six calls, and retries that count once. With `rudder` in
// MILLRACE_SDK the same with @rudderstack/rudder-sdk-node, which has the same calls.
//
// tests/sdk/run.sh sets up the SDKs and calls this.
// Segment's never compresses: the gzip runs hand it a fetch that does, which is a setting of its own.
// Exit codes: 0 passed, 1 failed, 2 could not run.

import { randomUUID } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { Platform, WAIT_MS, check, load, run as runTests, to, writeKey } from './support.mjs'

const sdk = process.env.MILLRACE_SDK ?? 'segment'

const zipped = (url, init) =>
  fetch(url, { ...init, headers: { ...init.headers, 'Content-Encoding': 'gzip' }, body: gzipSync(init.body) })

async function bySegment(host, way, calls) {
  const { Analytics } = load('@segment/analytics-node')
  const analytics = new Analytics({ writeKey, host, flushAt: 100, ...(way === 'gzip' ? { httpClient: zipped } : {}) })
  const errors = []
  analytics.on('error', (error) => errors.push(error.reason ?? error))
  calls(analytics)
  await analytics.closeAndFlush({ timeout: WAIT_MS })
  return errors
}

async function byRudder(host, way, calls) {
  const Analytics = load('@rudderstack/rudder-sdk-node')
  const errors = []
  const options = { dataPlaneUrl: host, flushAt: 100, logLevel: 'none', errorHandler: (error) => errors.push(error) }
  const analytics = new Analytics(writeKey, { ...options, gzip: way === 'gzip' })
  calls(analytics)
  // The first call is on its way alone; the rest waits for this.
  await new Promise((done) => analytics.flush(done))
  await analytics.pendingFlush
  return errors
}

async function sentBy(host, way, calls) {
  const errors = await (sdk === 'rudder' ? byRudder : bySegment)(host, way, calls)
  check(errors.length === 0, `the SDK reports ${errors}`)
}

async function sixCalls(way) {
  const run = randomUUID().slice(0, 12)
  const platform = await Platform.now()
  const user = `reader-${run}`
  const author = `author-${run}`
  const post = `post-${run}`
  await sentBy(to, way, (analytics) => {
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

const track = (client, userId, event, properties, messageId) => client.track({ userId, event, properties, messageId })

await runTests(`${sdk}-node`, { calls: sixCalls, sentBy, track })

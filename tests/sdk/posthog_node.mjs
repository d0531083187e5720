// posthog-node, unmodified, against a running server: its calls, which it compresses, and retries that count once.
//
// With `v1` in POSTHOG_CAPTURE_MODE by its newer protocol, whose answer has a verdict for each event. tests/sdk/run.sh sets up
// the SDK and calls this. Exit codes: 0 passed, 1 failed, 2 could not run.

import { randomUUID } from 'node:crypto'
import { Platform, WAIT_MS, check, load, run as runTests, to, writeKey } from './support.mjs'

const { PostHog } = load('posthog-node')

async function sentBy(host, way, calls) {
  const client = new PostHog(writeKey, { host, flushAt: 100, flushInterval: 60_000, disableCompression: way !== 'gzip', fetchRetryDelay: 200 })
  const errors = []
  client.on('error', (error) => errors.push(error))
  calls(client)
  await client.shutdown(WAIT_MS)
  check(errors.length === 0, `the SDK reports ${errors}`)
}

async function everyCall(way) {
  const run = randomUUID().slice(0, 12)
  const platform = await Platform.now()
  const [user, author, post] = [`reader-${run}`, `author-${run}`, `post-${run}`]
  const ids = Object.fromEntries(['created', 'liked', 'viewed', 'page', 'screen'].map((name) => [name, randomUUID()]))
  await sentBy(to, way, (client) => {
    const capture = (event, distinctId, properties, name) => client.capture({ distinctId, event, properties, uuid: ids[name] })
    capture('Post Created', author, { post_id: post, text: 'hello', tags: ['sdk'] }, 'created')
    capture('postLiked', user, { post_id: post }, 'liked')
    capture('Post Viewed', user, { post_id: post, dwell_ms: 1200 }, 'viewed')
    capture('$pageview', user, { $current_url: 'https://example.com/start' }, 'page')
    capture('$screen', user, { $screen_name: 'Home' }, 'screen')
    client.identify({ distinctId: user, properties: { plan: 'free', name: 'Zoë' } })
    client.groupIdentify({ groupType: 'team', groupKey: `team-${run}`, properties: { size: 3 }, distinctId: user })
    client.alias({ distinctId: user, alias: `anon-${run}` })
  })
  const expected = {
    created: ['track', author, 'post_created'],
    liked: ['track', user, 'post_liked'],
    viewed: ['track', user, 'post_viewed'],
    page: ['page', user],
    screen: ['screen', user],
  }
  for (const [name, [type, who, event]] of Object.entries(expected)) {
    const records = await platform.withId(ids[name])
    check(records.length === 1, `${name} is in the log ${records.length} times`)
    const [record] = records
    check(record.type === type, `${name} came in as ${record.type}`)
    check((record.user_id || undefined) === who, `${name} is by ${record.user_id}`)
    check(event === undefined || record.event === event, `${name} is called ${record.event}`)
  }
  const mine = (await platform.readOn()).filter((record) => JSON.stringify(record).includes(run))
  const only = (type) => mine.filter((record) => record.type === type)
  check(mine.length === 8, `${mine.length} records came of eight calls`)
  check(only('identify').length === 1 && only('identify')[0].user_id === user, 'identify came in once')
  check(only('group').length === 1 && only('group')[0].group_id === `team-${run}`, 'the group came in once')
  check(only('alias').length === 1 && only('alias')[0].previous_id === `anon-${run}`, 'the alias came in once')
  const { author_id, totals } = await platform.engagement(post)
  check(author_id === author, `the author is ${author_id}`)
  const counts = [totals.likes, totals.views, totals.unique_viewers]
  check(counts.join() === '1,1,1', `likes, views and unique viewers are ${counts}`)
}

const track = (client, distinctId, event, properties, uuid) => client.capture({ distinctId, event, properties, uuid })

await runTests(`${process.env.MILLRACE_SDK ?? 'posthog'}-node`, { calls: everyCall, sentBy, track })

// analytics.js of Segment and posthog-js, unmodified, in a real browser: pages of another origin than the server's, a page view
// and a click on a button, every call, and retries that count once.
//
// tests/sdk/run.sh sets up the SDKs and calls this, with the path of Chromium in MILLRACE_CHROMIUM.
// Exit codes: 0 passed, 1 failed, 2 could not run. When a test fails, a picture of its page is left where it says.

import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import http from 'node:http'
import os from 'node:os'
import path from 'node:path'
import { Failed, Platform, check, checkCopies, flakyProxy, json, load, pause, runTests, to, until, writeKey } from '../support.mjs'

const { chromium } = load('playwright-core')
const here = import.meta.dirname
const modules = path.resolve(process.env.MILLRACE_SDK_DIR ?? '.')

// A site with the pages beside this file, the packages as they are installed, and `settings` for the pages.
async function site(settings) {
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost')
    const type = pathname.endsWith('.html') ? 'text/html; charset=utf-8' : 'text/javascript; charset=utf-8'
    try {
      const folder = pathname.startsWith('/node_modules/') ? modules : here
      const body = pathname === '/settings.js' ? `window.settings = ${JSON.stringify(settings)}` : await readFile(path.join(folder, pathname))
      response.writeHead(200, { 'Content-Type': type }).end(body)
    } catch {
      response.writeHead(404).end()
    }
  })
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  const close = () => {
    server.closeAllConnections()
    return new Promise((done) => server.close(done))
  }
  return { url: `http://127.0.0.1:${server.address().port}`, close }
}

// Opens `name` for somebody new, in a browser that remembers nothing, and runs `test` with it.
async function visited(browser, name, { at = to, options = {}, mayFail = () => false }, test) {
  const post = `post-${randomUUID().slice(0, 12)}`
  const pages = await site({ to: at, writeKey, post, options })
  const context = await browser.newContext()
  const page = await context.newPage()
  const complaints = []
  page.on('pageerror', (error) => complaints.push(String(error)))
  page.on('console', (said) => {
    if (said.type() === 'error' && !mayFail(said.location().url, said.text())) complaints.push(`${said.text()} (${said.location().url})`)
  })
  const url = `${pages.url}/${name}`
  try {
    const platform = await Platform.now()
    await page.goto(url)
    await test({ page, platform, post, url })
    check(complaints.length === 0, `the browser complains: ${complaints.join('; ')}`)
    const errors = await page.evaluate(() => window.errors)
    check(errors.length === 0, `the SDK reports ${JSON.stringify(errors)}`)
  } catch (error) {
    const picture = path.join(os.tmpdir(), `millrace-browser-${post}.png`)
    await page.screenshot({ path: picture })
    if (!(error instanceof Failed)) throw error
    throw new Failed(`${error.message} (picture: ${picture}; the browser says: ${complaints.join('; ') || 'nothing'})`)
  } finally {
    await context.close()
    await pages.close()
  }
}

// Waits until `count` events of this visitor are in the log, and a little for what might come twice.
async function arrived(platform, who, count) {
  const mine = () => platform.records.filter((record) => JSON.stringify(record).includes(who))
  await until(async () => {
    await platform.readOn()
    return mine().length >= count
  }, `${count} events of ${who} in the log`)
  await pause(500)
  await platform.readOn()
  return mine()
}

// How often the archive has events of this name since `from`, once it has any.
async function counted(name, from) {
  let rows = []
  await until(async () => {
    const answer = await json(`/v1/queries/events_by_name?from=${encodeURIComponent(from)}`)
    rows = answer.rows.filter(([event]) => event === name)
    return rows.length > 0
  }, `${name} in the answer of events_by_name`)
  return rows[0][1]
}

const kept = (page, key) => page.evaluate((key) => JSON.parse(localStorage.getItem(key)), key)

function checkNames(records, names) {
  const found = records.map((record) => (record.type === 'track' ? record.event : record.type)).sort()
  check(found.join() === [...names].sort().join(), `the log has ${found}, not ${names}`)
}

// analytics.js: settings from the server unless `options` say where events go; one at a time or in batches.
const batching = { deliveryStrategy: { strategy: 'batching', config: { size: 10, timeout: 300 } } }
const through = (url) => ({ apiHost: `${new URL(url).host}/v1`, protocol: 'http' })

async function segmentViewAndClick(browser, more) {
  const options = { integrations: { 'Segment.io': more } }
  await visited(browser, 'segment.html', { options }, async ({ page, platform, post, url }) => {
    await page.click('#like')
    await page.waitForFunction(() => localStorage.getItem('ajs_anonymous_id'))
    const who = await kept(page, 'ajs_anonymous_id')
    const records = await arrived(platform, who, 2)
    checkNames(records, ['page', 'post_liked'])
    for (const { anonymous_id, context, type } of records) {
      check(anonymous_id === who, `the ${type} is by ${anonymous_id}, the browser is ${who}`)
      check(context.page.url === url, `the ${type} was sent from ${context.page.url}, not from ${url}`)
      check(context.library.name === 'analytics.js', `the ${type} was sent by ${context.library.name}`)
    }
    const { totals } = await platform.engagement(post)
    check(totals.likes === 1, `the likes are ${totals.likes}`)
  })
}

async function segmentEveryCall(browser) {
  await visited(browser, 'segment.html', {}, async ({ page, platform, post }) => {
    const from = new Date(Date.now() - 60_000).toISOString()
    const user = `user-${post}`
    await page.evaluate(
      async ([user, post]) => {
        const { analytics } = window
        await analytics.track(`Seen ${post}`, { n: 1.5, text: 'Grüße, „Zoë“' })
        await analytics.screen('Home')
        await analytics.identify(user, { name: 'Zoë' })
        await analytics.group(`team-${post}`, { size: 3 })
        await analytics.alias(`other-${post}`, user)
      },
      [user, post],
    )
    const who = await kept(page, 'ajs_anonymous_id')
    const records = await arrived(platform, who, 6)
    const custom = `seen_${post.replaceAll('-', '_')}`
    checkNames(records, ['page', custom, 'screen', 'identify', 'group', 'alias'])
    const only = (type) => records.find((record) => record.type === type)
    check(only('track').properties.text === 'Grüße, „Zoë“', `the text is ${only('track').properties.text}`)
    check(only('identify').user_id === user && only('identify').anonymous_id === who, 'identify names both ids')
    check(only('group').group_id === `team-${post}`, `the group is ${only('group').group_id}`)
    check(only('alias').previous_id === user, `the previous id is ${only('alias').previous_id}`)
    check((await counted(custom, from)) === 1, 'the archive has the event once')
  })
}

async function segmentRetry(browser, mode, times, more) {
  const proxy = await flakyProxy(mode, times)
  const options = { integrations: { 'Segment.io': { ...through(proxy.url), ...more } } }
  // The browser says of each answer that was lost that it was lost.
  const mayFail = (url) => url.startsWith(proxy.url)
  try {
    await visited(browser, 'segment.html', { options, mayFail }, async ({ page, platform, post }) => {
      await page.click('#like')
      await until(() => proxy.seen.requests >= times + 2 || (more && proxy.seen.requests >= times + 1), 'the SDK tries again')
      const who = await kept(page, 'ajs_anonymous_id')
      const records = await arrived(platform, who, mode === 'shut' ? 2 : 2 + times)
      const ids = [...new Set(records.map((record) => record.message_id))]
      check(ids.length === 2, `the log has ${ids.length} different events`)
      checkCopies(ids.map((id) => records.filter((record) => record.message_id === id).length), mode, 1)
      check(proxy.seen.preflights > 0, 'the browser asked before it sent')
      const { totals } = await platform.engagement(post)
      check(totals.likes === 1, `the likes are ${totals.likes}`)
    })
  } finally {
    await proxy.close()
  }
}

async function posthogViewAndClick(browser, options) {
  const from = new Date(Date.now() - 60_000).toISOString()
  await visited(browser, 'posthog.html', { options }, async ({ page, platform, post, url }) => {
    await page.waitForFunction(() => window.posthog)
    await page.click('#like')
    await page.evaluate((post) => window.posthog.capture(`Seen ${post}`, { text: 'Grüße, „Zoë“' }), post)
    const who = await page.evaluate(() => window.posthog.get_distinct_id())
    const custom = `seen_${post.replaceAll('-', '_')}`
    const names = ['page', 'post_liked', 'autocapture', custom]
    const records = await arrived(platform, who, names.length)
    checkNames(records, names)
    for (const { anonymous_id, properties, type } of records) {
      check(anonymous_id === who, `the ${type} is by ${anonymous_id}, the browser is ${who}`)
      check(properties.$current_url === url, `the ${type} was sent from ${properties.$current_url}, not from ${url}`)
    }
    check(records.find(({ event }) => event === custom).properties.text === 'Grüße, „Zoë“', 'the text is kept')
    const { totals } = await platform.engagement(post)
    check(totals.likes === 1, `the likes are ${totals.likes}`)
    check((await counted(custom, from)) === 1, 'the archive has the event once')
  })
}

async function posthogRetry(browser, mode, times) {
  const proxy = await flakyProxy(mode, times)
  const options = { ...quick, advanced_disable_flags: true, autocapture: false, capture_pageview: false }
  const mayFail = (url) => url.startsWith(proxy.url)
  try {
    await visited(browser, 'posthog.html', { at: proxy.url, options, mayFail }, async ({ page, platform, post }) => {
      await page.waitForFunction(() => window.posthog)
      await page.click('#like')
      const who = await page.evaluate(() => window.posthog.get_distinct_id())
      const records = await arrived(platform, who, mode === 'shut' ? 1 : 1 + times)
      check(proxy.seen.requests > times, `the SDK sent ${proxy.seen.requests} requests: no retry took place`)
      check(new Set(records.map((record) => record.message_id)).size === 1, 'a retry has the same id')
      checkCopies([records.length], mode, times)
      const { totals } = await platform.engagement(post)
      check(totals.likes === 1, `the likes are ${totals.likes}`)
    })
  } finally {
    await proxy.close()
  }
}

// What is sent goes soon; gzip unless something else is said.
const quick = { request_queue_config: { flush_interval_ms: 250 } }

let browser
try {
  // Without a sandbox, which root cannot have: it opens nothing but pages of this folder.
  browser = await chromium.launch({
    executablePath: process.env.MILLRACE_CHROMIUM,
    chromiumSandbox: false,
    args: ['--disable-background-networking'],
  })
} catch (error) {
  console.error(`browser: Chromium does not start: ${error.message}`)
  process.exit(2)
}
const code = await runTests('browser', [
  ['analytics.js: a page view and a click', () => segmentViewAndClick(browser, {})],
  ['analytics.js: the same in batches', () => segmentViewAndClick(browser, batching)],
  ['analytics.js: every call', () => segmentEveryCall(browser)],
  ['analytics.js: a retry counts once (drop, 1 answers lost)', () => segmentRetry(browser, 'drop', 1)],
  ['analytics.js: a retry counts once (503-wait, 1 answers lost)', () => segmentRetry(browser, '503-wait', 1)],
  ['analytics.js: a retry counts once (shut, 2 answers lost)', () => segmentRetry(browser, 'shut', 2)],
  ['analytics.js: a retry counts once in batches (503-wait, 1 answers lost)', () => segmentRetry(browser, '503-wait', 1, batching)],
  ['posthog-js: a page view and a click', () => posthogViewAndClick(browser, quick)],
  ['posthog-js: the same without asking what it may do', () => posthogViewAndClick(browser, { ...quick, advanced_disable_flags: true })],
  ['posthog-js: the same uncompressed', () => posthogViewAndClick(browser, { ...quick, disable_compression: true })],
  ['posthog-js: a retry counts once (503-wait, 1 answers lost)', () => posthogRetry(browser, '503-wait', 1)],
  ['posthog-js: a retry counts once (drop, 1 answers lost)', () => posthogRetry(browser, 'drop', 1)],
])
await browser.close()
process.exit(code)

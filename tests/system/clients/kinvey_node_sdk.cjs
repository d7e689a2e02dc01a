// Kinvey's library for Node.js of before version 4, unmodified: node kinvey_node_sdk.cjs READY.json
// Prints one line of JSON a step; a step that fails ends the run with exit code 1.
// It sends by itself, to the host it is told, and brings PubNub's client with it.
'use strict'
const assert = require('node:assert')
const fs = require('node:fs')
const Kinvey = require('kinvey-node-sdk')

const ready = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
const { appID: appKey, appKey: appSecret } = ready.app
const { User, Query, DataStore, DataStoreType, Acl } = Kinvey
const received = []
let onReceived = () => {}

async function step (title, act) {
  try {
    const told = await act()
    console.log(JSON.stringify({ step: title, ok: true }))
    return told
  } catch (error) {
    console.log(JSON.stringify({ step: title, ok: false, error: String(error && error.message), name: error && error.name, stack: error && error.stack }))
    process.exit(1)
  }
}

async function refused (name, act) {
  await assert.rejects(act, (error) => {
    assert.strictEqual(error.name, name, `${error.name}: ${error.message}`)
    return true
  })
}

function nextMessage () {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('nothing came')), 10000)
    onReceived = () => {
      if (received.length === 0) return
      clearTimeout(timer)
      onReceived = () => {}
      resolve(received.shift())
    }
    onReceived()
  })
}

const numbers = (entities) => entities.map((each) => each.n).sort()

async function main () {
  Kinvey.init({ appKey, appSecret, apiHostname: ready.http, appVersion: '1.2.3' })
  const username = `user-${Date.now()}`
  await step('ping', async () => assert.strictEqual((await Kinvey.ping()).environmentName, appKey))
  await step('sign up', async () => {
    const user = await User.signup({ username, password: 'secret', team: 'a' })
    assert.strictEqual(user.data.password, 'secret')
    await user.logout()
    await User.login(username, user.data.password)
  })
  // The library keeps what these answer as its session.
  await step('the session outlives me() and update()', async () => {
    assert.strictEqual((await User.me()).data.team, 'a')
    assert.strictEqual((await User.update({ team: 'b' })).data.team, 'b')
    await User.update({ password: 'another' })
    assert.strictEqual((await User.me()).data.team, 'b')
  })
  await step('look up', async () => {
    const found = await User.lookup(new Query().equalTo('username', username)).toPromise()
    assert.deepStrictEqual(found.map((each) => each.username), [username])
  })
  const books = DataStore.collection('books', DataStoreType.Network)
  await step('query', async () => {
    for (const n of [0, 1, 2, 3]) await books.save({ n, text: `text ${n}`, tags: ['a', `b${n}`], sub: { n } })
    const cases = [
      [new Query().notEqualTo('n', 1), [0, 2, 3]],
      [new Query().greaterThan('n', 0).lessThanOrEqualTo('n', 2), [1, 2]],
      [new Query().contains('n', [1, 3]), [1, 3]],
      [new Query().notContainedIn('n', [1, 3]), [0, 2]],
      [new Query().containsAll('tags', ['a', 'b2']), [2]],
      [new Query().exists('sub.n'), [0, 1, 2, 3]],
      [new Query().mod('n', 2, 1), [1, 3]],
      [new Query().matches('text', /^text [12]/), [1, 2]],
      [new Query().size('tags', 2), [0, 1, 2, 3]],
      [new Query().equalTo('n', 1).or(new Query().equalTo('n', 2)), [1, 2]],
      [new Query().equalTo('n', 1).nor(new Query().equalTo('n', 2)), [0, 3]]
    ]
    for (const [query, expected] of cases) {
      assert.deepStrictEqual(numbers(await books.find(query).toPromise()), expected, query.toString())
      assert.strictEqual(await books.count(query).toPromise(), expected.length)
    }
    const query = new Query().descending('n')
    Object.assign(query, { limit: 2, skip: 1, fields: ['n'] })
    const page = await books.find(query).toPromise()
    assert.deepStrictEqual(page.map((each) => [each.n, each.text]), [[2, undefined], [1, undefined]])
  })
  await step('synchronise', async () => {
    const synchronised = DataStore.collection('books', DataStoreType.Sync)
    assert.strictEqual(await synchronised.pull(), 4)
    await synchronised.save({ n: 9 })
    assert.strictEqual((await synchronised.sync()).pull, 5)
    const delta = DataStore.collection('books', DataStoreType.Sync, { useDeltaSet: true })
    assert.strictEqual(await delta.pull(), 5)
    assert.strictEqual(await delta.pull(), 5)
    assert.deepStrictEqual(await books.remove(new Query().greaterThan('n', 1)), { count: 3 })
  })
  await step('share an entity', async () => {
    const acl = new Acl({})
    acl.addWriter('someone')
    const saved = await books.save({ n: 5, _acl: acl.toPlainObject() })
    assert.deepStrictEqual(new Acl(saved).writers, ['someone'])
    await refused('NotFoundError', () => books.findById('nothing').toPromise())
  })
  await step('hear a collection live', async () => {
    await User.registerForLiveService()
    await books.subscribe({ onMessage: (entity) => { received.push(entity); onReceived() } })
    const first = await books.save({ n: 7 }) // before the transport is ready
    assert.deepStrictEqual(await nextMessage(), first)
    const second = await books.save({ n: 8 })
    assert.deepStrictEqual(await nextMessage(), second)
    await books.unsubscribe()
  })
  await step('log out', async () => {
    await User.logout()
    assert.strictEqual(User.getActiveUser(), null)
    await refused('InvalidCredentialsError', () => User.login(username, 'secret'))
  })
  process.exit(0)
}

main()

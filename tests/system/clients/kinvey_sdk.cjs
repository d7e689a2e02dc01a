// Kinvey's own JavaScript library, unmodified, against a server: node kinvey_sdk.cjs READY.json
// Prints one line of JSON a step; a step that fails ends the run with exit code 1.
// The library leaves sending, sessions and storage to its platform packages: what stands below as
// `httpAdapter` sends to the server instead of to the service's host, and changes nothing else.
'use strict'
const assert = require('node:assert')
const fs = require('node:fs')
const Kinvey = require('kinvey-js-sdk')

const ready = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
const { appID: appKey, appKey: appSecret, clientSecret: masterSecret } = ready.app
const username = `user-${Date.now()}`
const sent = []

const httpAdapter = {
  async send ({ url, method, headers, body }) {
    const { host, pathname, search } = new URL(url)
    assert.strictEqual(host, 'baas.kinvey.com')
    const plain = typeof headers.toPlainObject === 'function' ? headers.toPlainObject() : headers
    sent.push(`${method} ${pathname}`)
    const response = await fetch(ready.http + pathname + search, { method, headers: plain, body: body || undefined })
    return {
      statusCode: response.status,
      headers: Object.fromEntries(response.headers),
      data: await response.text()
    }
  }
}

class MemoryStore {
  constructor () { this.values = new Map() }
  async get (key) { return this.values.has(key) ? this.values.get(key) : null }
  async set (key, value) { this.values.set(key, value); return true }
  async remove (key) { return this.values.delete(key) }
  async clear () { this.values.clear() }
}

// What a platform package keeps in IndexedDB or SQLite: here documents by table.
class MemoryStorage {
  constructor () { this.tables = new Map() }
  table (database, name) {
    const key = `${database}/${name}`
    if (!this.tables.has(key)) this.tables.set(key, new Map())
    return this.tables.get(key)
  }

  async find (...place) { return [...this.table(...place).values()] }
  async count (...place) { return this.table(...place).size }
  async findById (database, name, id) { return this.table(database, name).get(id) }
  async save (database, name, documents) {
    for (const each of documents) this.table(database, name).set(each._id, each)
    return documents
  }

  async removeById (database, name, id) { return this.table(database, name).delete(id) ? 1 : 0 }
  async clear (...place) { this.table(...place).clear() }
  async clearDatabase () { this.tables.clear() }
}

async function step (title, act) {
  try {
    const told = await act()
    console.log(JSON.stringify({ step: title, ok: true }))
    return told
  } catch (error) {
    console.log(JSON.stringify({ step: title, ok: false, error: String(error && error.message), name: error && error.name, stack: error && error.stack, sent: sent.slice(-3) }))
    process.exit(1)
  }
}

async function refused (name, act) {
  await assert.rejects(act, (error) => {
    assert.strictEqual(error.name, name, `${error.name}: ${error.message}`)
    return true
  })
}

async function push (path, body, authorization) {
  const response = await fetch(`${ready.http}/push/${appKey}/${path}`, {
    method: 'POST',
    headers: { authorization, 'content-type': 'application/json' },
    body: JSON.stringify(body)
  })
  assert.ok(response.ok, `${path}: ${response.status}`)
  return response.status === 204 ? undefined : response.json()
}

const master = `Basic ${Buffer.from(`${appKey}:${masterSecret}`).toString('base64')}`

const platform = {
  httpAdapter,
  sessionStore: new MemoryStore(),
  storageAdapter: new MemoryStorage(),
  popup: {},
  pubnub: class {}
}

async function main () {
  Kinvey.init({ kinveyConfig: { appKey, appSecret, appVersion: '1.2.3' }, ...platform })
  const { User, Query, DataStore, DataStoreType } = Kinvey

  await step('ping', async () => {
    const told = await Kinvey.ping()
    assert.strictEqual(told.environmentName, appKey)
  })
  await step('a user name is free', async () => assert.strictEqual(await User.exists(username), false))
  const signedUp = await step('sign up', () => User.signup({ username, password: 'secret', team: 'a' }))
  const user = await step('log in', () => User.login(username, 'secret'))
  await step('it is the one who signed up', async () => {
    assert.strictEqual(user._id, signedUp._id)
    assert.strictEqual(await user.isActive(), true)
    assert.strictEqual(user.username, username)
    assert.strictEqual(user.data.team, 'a')
    assert.deepStrictEqual(user.data._messaging.pushTokens, [])
  })
  await step('a user name is taken', async () => {
    assert.strictEqual(await User.exists(username), true)
    await refused('UserAlreadyExistsError', () => User.signup({ username, password: 'x' }))
  })
  await step('register a device', async () => {
    await push('register-device', { platform: 'ios', framework: 'nativescript', deviceId: 'a1'.repeat(32), service: 'firebase', userId: user._id }, master)
    const own = await user.me()
    assert.strictEqual(own.data._messaging.pushTokens.length, 1)
  })
  await step('update keeps the device', async () => {
    const changed = await user.update({ team: 'b' })
    assert.strictEqual(changed.data.team, 'b')
    assert.strictEqual(changed.data._messaging.pushTokens.length, 1)
  })
  await step('log out', () => User.logout())
  await step('a wrong password', () => refused('InvalidCredentialsError', () => User.login(username, 'wrong')))
  await step('log in again', async () => {
    const again = await User.login(username, 'secret')
    assert.strictEqual(again._id, user._id)
    assert.strictEqual((await User.me()).data.team, 'b')
  })
  await step('look up', async () => {
    const found = await User.lookup(new Query().equalTo('username', username)).toPromise()
    assert.deepStrictEqual(found.map((each) => each._id), [user._id])
  })
  await step('save, find and remove an entity', async () => {
    const books = DataStore.collection('books', DataStoreType.Network)
    const saved = await books.create({ title: 'x', pages: 5 })
    assert.strictEqual(saved._acl.creator, user._id)
    const query = new Query().greaterThan('pages', 4).descending('title')
    const found = await books.find(query).toPromise()
    assert.deepStrictEqual(found.map((each) => each._id), [saved._id])
    assert.strictEqual((await books.update({ ...saved, pages: 6 })).pages, 6)
    assert.strictEqual(await books.count().toPromise(), 1)
    assert.deepStrictEqual(await books.removeById(saved._id), { count: 1 })
    await refused('NotFoundError', () => books.findById(saved._id).toPromise())
  })
  await step('end all sessions', async () => {
    const active = await User.getActiveUser()
    const { authtoken } = active.data._kmd
    await active.invalidateTokens()
    const headers = { authorization: `Kinvey ${authtoken}` }
    assert.strictEqual((await fetch(`${ready.http}/user/${appKey}/_me`, { headers })).status, 401)
    await User.login(username, 'secret')
  })
  await step('an unknown endpoint', () => refused('NotFoundError', () => Kinvey.CustomEndpoint.execute('nothing', {})))
  await step('remove the user', async () => {
    Kinvey.init({ kinveyConfig: { appKey, appSecret, masterSecret }, ...platform })
    await User.remove(user._id, { hard: true })
    await refused('InvalidCredentialsError', () => User.login(username, 'secret'))
  })
}

main()

// Kinvey's own JavaScript library and PubNub's, both unmodified, follow a collection live:
// node kinvey_live.cjs READY.json
// Prints one line of JSON a step; a step that fails ends the run with exit code 1.
// What a platform package brings stands below: sending, to the server instead of to the service's
// host, and memory. PubNub gets its host from the answer of register-realtime, as any server's.
'use strict'
const assert = require('node:assert')
const fs = require('node:fs')
const Kinvey = require('kinvey-js-sdk')
const PubNub = require('pubnub')

const ready = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
const { appID: appKey, appKey: appSecret } = ready.app
const collection = 'news'
const received = []
let onReceived = () => {}

const httpAdapter = {
  async send ({ url, method, headers, body }) {
    const { pathname, search } = new URL(url)
    const response = await fetch(ready.http + pathname + search, { method, headers, body: body || undefined })
    return {
      statusCode: response.status,
      headers: Object.fromEntries(response.headers),
      data: await response.text()
    }
  }
}

function memory () {
  const values = new Map()
  return {
    get: async (key) => values.get(key) ?? null,
    set: async (key, value) => { values.set(key, value); return true },
    remove: async (key) => values.delete(key)
  }
}

function storage () {
  const documents = []
  return {
    find: async () => [...documents],
    count: async () => documents.length,
    findById: async (database, table, id) => documents.find((each) => each._id === id),
    save: async (database, table, added) => { documents.push(...added); return added },
    removeById: async () => 0,
    clear: async () => {},
    clearDatabase: async () => {}
  }
}

async function step (title, act) {
  try {
    const told = await act()
    console.log(JSON.stringify({ step: title, ok: true }))
    return told
  } catch (error) {
    console.log(JSON.stringify({ step: title, ok: false, error: String(error && error.message), stack: error && error.stack }))
    process.exit(1)
  }
}

// What the receiver of the collection gets next.
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

// Another user of the same app, in plain REST.
async function someoneElse () {
  const call = async (method, path, authorization, body) => {
    const response = await fetch(`${ready.http}${path}`, {
      method,
      headers: { authorization, 'content-type': 'application/json', 'x-kinvey-api-version': '6' },
      body: JSON.stringify(body)
    })
    assert.ok(response.ok, `${path}: ${response.status}`)
    return response.json()
  }
  const app = `Basic ${Buffer.from(`${appKey}:${appSecret}`).toString('base64')}`
  const user = await call('POST', `/user/${appKey}`, app, {})
  return (entity) => call('POST', `/appdata/${appKey}/${collection}`, `Kinvey ${user._kmd.authtoken}`, entity)
}

async function main () {
  const connected = new Promise((resolve) => {
    class Announced extends PubNub {
      constructor (config) {
        super(config)
        this.addListener({ status: ({ category }) => { if (category === 'PNConnectedCategory') resolve() } })
      }
    }
    Kinvey.init({
      kinveyConfig: { appKey, appSecret },
      httpAdapter,
      sessionStore: memory(),
      storageAdapter: storage(),
      popup: {},
      pubnub: Announced
    })
  })
  const { User, DataStore, DataStoreType } = Kinvey
  const news = DataStore.collection(collection, DataStoreType.Network)
  const username = `user-${Date.now()}`
  await step('sign up', () => User.signup({ username, password: 'secret' }))
  const user = await step('log in', () => User.login(username, 'secret'))
  await step('register', async () => {
    assert.strictEqual(await user.registerForLiveService(), true)
    await connected
  })
  await step('subscribe', () => news.subscribe({
    onMessage: (entity) => { received.push(entity); onReceived() },
    onError: (status) => { throw new Error(JSON.stringify(status)) }
  }))
  const post = await someoneElse()
  await step('hear what another user writes', async () => {
    const posted = await post({ text: 'one' })
    assert.deepStrictEqual(await nextMessage(), posted)
    const both = [await post({ text: 'two' }), await post({ text: 'three' })]
    assert.deepStrictEqual([await nextMessage(), await nextMessage()], both)
  })
  await step('hear what one writes oneself', async () => {
    const saved = await news.create({ text: 'own' })
    assert.deepStrictEqual(await nextMessage(), saved)
  })
  await step('unsubscribe', async () => {
    await news.unsubscribe()
    await post({ text: 'unheard' })
    await news.subscribe({ onMessage: (entity) => { received.push(entity); onReceived() } })
    const posted = await post({ text: 'heard' })
    assert.deepStrictEqual(await nextMessage(), posted)
  })
  await step('log out', async () => {
    await User.logout()
    assert.strictEqual(await User.getActiveUser(), null)
  })
  process.exit(0)
}

main()

// The service's own JavaScript library, unmodified, against a server: node kii_sdk.cjs READY.json
// Prints one line of JSON a step; a step that fails ends the run with exit code 1.
'use strict'
const assert = require('node:assert')
const fs = require('node:fs')
const kii = require('kii-cloud-sdk').create()
const mqtt = require('mqtt')

const { Kii, KiiACLEntry, KiiClause, KiiGroup, KiiPushMessageBuilder, KiiQuery, KiiThing, KiiUser } = kii
const ready = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
const app = ready.app
const name = `user-${Date.now()}`
const pushes = []
let onPush = () => {}

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

// The next push, which must be of this type or topic.
function nextPush (matches) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no push came')), 10000)
    onPush = () => {
      const push = pushes.shift()
      if (push === undefined) return
      clearTimeout(timer)
      onPush = () => {}
      try {
        assert.ok(matches(push), JSON.stringify(push))
        resolve(push)
      } catch (error) { reject(error) }
    }
    onPush()
  })
}

async function connect (endpoint) {
  const client = mqtt.connect(`mqtt://${endpoint.host}:${endpoint.portTCP}`, {
    clientId: endpoint.mqttTopic,
    username: endpoint.username,
    password: endpoint.password,
    reconnectPeriod: 0
  })
  client.on('message', (topic, payload) => {
    assert.strictEqual(topic, endpoint.mqttTopic)
    pushes.push(JSON.parse(payload))
    onPush()
  })
  await new Promise((resolve, reject) => { client.on('connect', resolve); client.on('error', reject) })
  const granted = await client.subscribeAsync(endpoint.mqttTopic)
  assert.strictEqual(granted[0].qos, 0)
  return client
}

async function users () {
  await step('sign up', () => KiiUser.userWithUsername(name, 'password').register())
  await step('log in', () => KiiUser.authenticate(name, 'password'))
  const user = KiiUser.getCurrentUser()
  await step('change a user', async () => {
    user.set('age', 5)
    user.setDisplayName('Zoë, 50% off')
    await user.save()
    await user.refresh()
    assert.strictEqual(user.get('age'), 5)
  })
  await step('change a password', () => user.updatePassword('password', 'another'))
  await step('a wrong password is refused', () => assert.rejects(KiiUser.authenticate(name, 'wrong one')))
  await step('log in with the new one', () => KiiUser.authenticate(name, 'another'))
  return KiiUser.getCurrentUser()
}

async function devices (user) {
  const devices = user.pushInstallation()
  const made = await step('install', () => devices.installMqtt(false))
  const endpoint = await step('get the endpoint', () => devices.getMqttEndpoint(made.installationID))
  return { made, endpoint, client: await step('connect and subscribe', () => connect(endpoint)) }
}

async function buckets (user) {
  const bucket = Kii.bucketWithName('from-the-library')
  const subscriptions = user.pushSubscription()
  await step('not subscribed', async () => assert.ok(!(await subscriptions.isSubscribed(bucket))[2]))
  await step('subscribe to a bucket', () => subscriptions.subscribe(bucket))
  await step('subscribed', async () => assert.ok((await subscriptions.isSubscribed(bucket))[2]))
  const object = bucket.createObject()
  object.set('score', 10)
  object.set('name', '100% sure')
  await step('create an object', () => object.save())
  await step('its push', () => nextPush(push => push.type === 'DATA_OBJECT_CREATED' && object.objectURI() === push.sourceURI))
  object.set('score', 11)
  await step('change an object', () => object.save(null, false))
  await step('its push', () => nextPush(push => push.type === 'DATA_OBJECT_UPDATED'))
  await step('replace an object', () => object.saveAllFields())
  await step('its push', () => nextPush(push => push.type === 'DATA_OBJECT_UPDATED'))
  await step('read an object', async () => {
    await object.refresh()
    assert.strictEqual(object.get('name'), '100% sure')
  })
  const query = KiiQuery.queryWithClause(KiiClause.and(KiiClause.equals('score', 11), KiiClause.startsWith('name', '100')))
  query.sortByDesc('score')
  await step('query', async () => assert.strictEqual((await bucket.executeQuery(query))[1].length, 1))
  await step('count', async () => assert.strictEqual((await bucket.count())[2], 1))
  await step('take a right away', () => {
    const acl = object.objectACL()
    const entry = KiiACLEntry.entryWithSubject(new kii.KiiAnonymousUser(), kii.KiiACLAction.KiiACLObjectActionRead)
    entry.setGrant(false)
    acl.putACLEntry(entry)
    return acl.save()
  })
  await step('its push', () => nextPush(push => push.type === 'DATA_OBJECT_ACL_MODIFIED'))
  await step('delete an object', () => object.delete())
  await step('its push', () => nextPush(push => push.type === 'DATA_OBJECT_DELETED'))
  await step('delete a bucket', () => bucket.delete())
  await step('its push', () => nextPush(push => push.type === 'BUCKET_DELETED'))
}

async function topics (user) {
  const topic = user.topicWithName('news')
  await step('no topic', async () => assert.ok(!(await topic.exists())))
  await step('make a topic', () => topic.save())
  await step('a topic', async () => assert.ok(await topic.exists()))
  await step('subscribe to a topic', () => user.pushSubscription().subscribe(topic))
  await step('list topics', async () => assert.strictEqual((await user.listTopics())[0].length, 1))
  await step('send', () => topic.sendMessage(new KiiPushMessageBuilder({ text: '100%', number: 1 }).build()))
  await step('its push', () => nextPush(push => push.topic === 'news' && push.text === '100%' && push.number === 1 && push.when > 0))
  await step('unsubscribe', () => user.pushSubscription().unsubscribe(topic))
  await step('delete a topic', () => topic.deleteTopic())
}

async function groups () {
  const group = KiiGroup.groupWithName('team')
  await step('make a group', () => group.save())
  const object = group.bucketWithName('shared').createObject()
  object.set('a', 1)
  await step('an object of a group', () => object.save())
  await step('rename a group', () => group.changeGroupName('new name'))
  await step('its members', async () => assert.strictEqual((await group.getMemberList())[1].length, 1))
  await step('delete a group', () => group.delete())
}

async function things (user) {
  const vendorThingID = `vendor-${Date.now()}`
  await step('register a thing', () => KiiThing.register({ _vendorThingID: vendorThingID, _password: 'pw', temperature: '30%' }))
  const context = await step('log in as a thing', () => Kii.authenticateAsThing(vendorThingID, 'pw'))
  const made = await step('install a thing', () => context.pushInstallation().installMqtt(true))
  await step('its endpoint', () => context.pushInstallation().getMqttEndpoint(made.installationID))
  await step('own a thing', () => KiiThing.registerOwnerWithVendorThingID(vendorThingID, user))
  const thing = await step('load a thing', () => KiiThing.loadWithVendorThingID(vendorThingID))
  await step('disable a thing', async () => {
    await thing.disable()
    await thing.refresh()
    assert.ok(thing.getDisabled())
    await thing.enable()
  })
}

async function main () {
  Kii.initializeWithSite(app.appID, app.appKey, `${ready.http}/api`)
  const user = await users()
  const { made, client } = await devices(user)
  await buckets(user)
  await topics(user)
  await groups()
  await things(user)
  await step('a pseudo user', () => KiiUser.registerAsPseudoUser(null, { x: 1 }))
  await step('an administrator', async () => {
    const admin = await Kii.authenticateAsAppAdmin(app.clientID, app.clientSecret)
    await admin.topicWithName('everybody').save()
  })
  await KiiUser.authenticate(name, 'another')
  const current = KiiUser.getCurrentUser()
  await step('uninstall', () => current.pushInstallation().uninstall(made.installationRegistrationID, 'MQTT'))
  await step('delete a user', () => current.delete())
  client.end(true)
  process.exit(0)
}

main()

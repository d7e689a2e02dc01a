// The rest of the service's own JavaScript library, unmodified: node kii_sdk_wide.cjs READY.json
// Prints one line of JSON a step; a step that fails ends the run with exit code 1.
'use strict'
const assert = require('node:assert')
const fs = require('node:fs')
const kii = require('kii-cloud-sdk').create()

const { Kii, KiiACLAction, KiiACLEntry, KiiClause, KiiGroup, KiiObject, KiiPushMessageBuilder, KiiQuery, KiiThing, KiiUser } = kii
const ready = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
const app = ready.app
const serial = Date.now()
const phone = `+8190${String(serial).slice(-8)}`
const email = `anna-${serial}@example.com`

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

async function users () {
  const anna = KiiUser.userWithCredentials(email, phone, `anna-${serial}`, 'secret12')
  anna.setDisplayName('Anna 100%')
  anna.setCountry('JP')
  anna.set('own', { deep: [1, 2] })
  await step('sign up with every name', () => anna.register())
  for (const name of [email, phone, `anna-${serial}`]) {
    await step('log in by any of them', () => KiiUser.authenticate(name, 'secret12'))
  }
  await step('log in with a token', async () => {
    const user = await KiiUser.authenticateWithToken(KiiUser.getCurrentUser().getAccessToken())
    assert.deepStrictEqual(user.get('own'), { deep: [1, 2] })
    assert.ok(user.getEmailVerified() && user.getPhoneVerified() && !user.isPseudoUser() && !user.disabled())
  })
  await step('change and remove fields', async () => {
    const user = KiiUser.getCurrentUser()
    await user.update({ emailAddress: email }, null, { added: 1, country: 'US' }, ['own'])
    await user.save()
    assert.ok(user.getModified() > 0)
    const read = await KiiUser.authenticateWithToken(user.getAccessToken())
    assert.deepStrictEqual([read.get('own'), read.get('added'), read.getDisplayName()], [undefined, 1, 'Anna 100%'])
  })
  const ben = kii.KiiUserBuilder.builderWithLocalPhoneNumber(`080${String(serial).slice(-8)}`, 'JP', 'secret12').build()
  await step('sign up with a local number', () => ben.register())
  await step('find another user', async () => {
    for (const found of [await KiiUser.findUserByUsername(`anna-${serial}`), await KiiUser.findUserByEmail(email), await KiiUser.findUserByPhone(phone)]) {
      assert.deepStrictEqual([found.getID(), found.getDisplayName(), found.get('added')], [anna.getID(), 'Anna 100%', undefined])
    }
    await assert.rejects(KiiUser.findUserByUsername(`nobody-${serial}`), /USER_NOT_FOUND/)
  })
  await step('a pseudo user gets a name', async () => {
    const user = await KiiUser.registerAsPseudoUser(null, { age: 5 })
    await user.putIdentity({ username: `named-${serial}` }, 'secret12', null, null, ['age'])
    await user.refresh()
    assert.ok(!user.isPseudoUser())
  })
  return { anna: await KiiUser.authenticate(`anna-${serial}`, 'secret12'), ben }
}

async function groups (anna, ben) {
  const group = await step('make a group with members', () => KiiGroup.groupWithNameAndMembers('team 100%', [ben]).save())
  await step('its members and owner', async () => {
    await group.refresh()
    assert.strictEqual((await group.getMemberList())[1].length, 2)
    assert.strictEqual((await group.getOwner())[1].getID(), anna.getID())
    group.removeUser(ben)
    await group.save()
    assert.strictEqual((await group.getMemberList())[1].length, 1)
  })
  await step('groups of a user', async () => {
    assert.strictEqual((await anna.memberOfGroups())[1].length, 1)
    assert.strictEqual((await anna.ownerOfGroups())[1][0].getName(), 'team 100%')
  })
  await step('a group with an ID', () => KiiGroup.registerGroupWithID(`group-${serial}`, 'named', [anna, ben]))
  return group
}

async function objects (bucket, scope) {
  await step(`an object with a type (${scope})`, async () => {
    const object = bucket.createObjectWithType('Score')
    object.set('list', [1, 'ü%', null])
    await object.save()
    await object.refresh()
    assert.strictEqual(object.getObjectType(), 'Score')
    object.remove('list')
    await object.saveAllFields()
    await object.refresh()
    assert.deepStrictEqual([object.getObjectType(), object.get('list')], ['Score', undefined])
    const stale = KiiObject.objectWithURI(object.objectURI())
    await stale.refresh()
    object.set('n', 1)
    await object.save(null, false)
    stale.set('n', 2)
    await assert.rejects(stale.save(null, false), /OBJECT_VERSION_IS_STALE/)
    await object.delete()
  })
  await step(`an object with an ID (${scope})`, async () => {
    const object = bucket.createObjectWithID('my.id_-1')
    await object.saveAllFields(null, false)
    await assert.rejects(bucket.createObjectWithID('my.id_-1').saveAllFields(null, false), /OBJECT_ALREADY_EXISTS/)
    await object.refresh()
    assert.strictEqual(object.getObjectType(), undefined)
    await object.delete()
  })
  await step(`every clause (${scope})`, async () => {
    for (let i = 0; i < 7; i++) {
      const object = bucket.createObject()
      for (const [field, value] of [['n', i], ['s', `text ${i}`], ['even', i % 2 === 0], ['half', i / 2]]) object.set(field, value)
      await object.save()
    }
    const count = async (clause) => (await bucket.executeQuery(KiiQuery.queryWithClause(clause)))[1].length
    for (const [clause, expected] of [
      [KiiClause.equals('s', 'text 3'), 1], [KiiClause.equals('even', true), 4], [KiiClause.notEquals('n', 3), 6],
      [KiiClause.greaterThan('n', 4), 2], [KiiClause.greaterThanOrEqual('n', 4), 3], [KiiClause.lessThan('half', 1), 2],
      [KiiClause.lessThanOrEqual('half', 1), 3], [KiiClause.in('n', [1, 2, 99]), 2], [KiiClause.inClause('s', ['text 1']), 1],
      [KiiClause.startsWith('s', 'text'), 7], [KiiClause.hasField('s', 'STRING'), 7], [KiiClause.hasField('even', 'BOOLEAN'), 7],
      [KiiClause.or(KiiClause.equals('n', 1), KiiClause.equals('n', 2)), 2],
      [KiiClause.and(KiiClause.greaterThan('n', 1), KiiClause.not(KiiClause.equals('n', 5))), 4]
    ]) assert.strictEqual(await count(clause), expected, JSON.stringify(clause))
    assert.strictEqual((await bucket.countWithQuery(KiiQuery.queryWithClause(KiiClause.lessThan('n', 4))))[2], 4)
  })
  await step(`pages of a query (${scope})`, async () => {
    let query = KiiQuery.queryWithClause()
    query.setLimit(3)
    query.sortByDesc('n')
    const found = []
    while (query) {
      const [, page, next] = await bucket.executeQuery(query)
      found.push(...page.map(object => object.get('n')))
      query = next
    }
    assert.deepStrictEqual(found, [6, 5, 4, 3, 2, 1, 0])
  })
  await step(`drop a bucket (${scope})`, () => bucket.delete())
}

async function rights (anna, ben, group) {
  await step('grant and list rights', async () => {
    const object = anna.bucketWithName('private').createObject()
    await object.save()
    const acl = object.objectACL()
    acl.putACLEntry(KiiACLEntry.entryWithSubject(ben, KiiACLAction.KiiACLObjectActionWrite))
    acl.putACLEntry(KiiACLEntry.entryWithSubject(group, KiiACLAction.KiiACLObjectActionRead))
    await acl.save()
    const named = (await object.objectACL().listACLEntries())[1].map(entry => entry.getEntityString())
    assert.ok(named.includes(`UserID:${ben.getID()}`) && named.includes(`GroupID:${group.getID()}`), named.join())
  })
  await step('a message with everything', async () => {
    const topic = anna.topicWithName('all')
    await topic.save()
    const message = new KiiPushMessageBuilder({ a: 1, b: 'x', c: true })
    message.setSendToDevelopment(true).setSendToProduction(false).gcmData({ k: 'v' }).gcmCollapseKey('key').gcmTimeToLive(10)
    message.gcmDelayWhileIdle(true).gcmRestrictedPackageName('a.b').apnsData({ k: 1 }).apnsAlert({ body: 'b', title: 't' })
    message.apnsSound('s').apnsBadge(1).apnsContentAvailable(1).apnsCategory('c').apnsMutableContent(1)
    await topic.sendMessage(message.jpushData({ k: true }).mqttData({ k: 'v' }).build())
    const acl = topic.acl()
    acl.putACLEntry(KiiACLEntry.entryWithSubject(ben, KiiACLAction.KiiACLSubscribeToTopic))
    await acl.save()
  })
}

async function bodies (anna) {
  await step('publish and move a body', async () => {
    const bucket = anna.bucketWithName('bodies')
    const [object, other] = [bucket.createObject(), bucket.createObject()]
    await object.save()
    await other.save()
    const path = `${ready.http}/api/apps/${app.appID}/users/me/buckets/bodies/objects/${object.getUUID()}/body`
    const headers = { authorization: `Bearer ${anna.getAccessToken()}`, 'content-type': 'text/plain' }
    assert.ok((await fetch(path, { method: 'PUT', headers, body: 'hello' })).ok)
    const urls = [(await object.publishBody())[1], (await object.publishBodyExpiresIn(60))[1], (await object.publishBodyExpiresAt(Date.now() + 60000))[1]]
    for (const url of urls) assert.strictEqual(await (await fetch(url)).text(), 'hello')
    await object.moveBody(other.objectURI())
    await assert.rejects(object.deleteBody())
    await other.deleteBody()
  })
}

async function things (anna) {
  const name = `lamp-${serial}`
  const thing = await step('own, change and switch off a thing', async () => {
    const thing = await KiiThing.register({ _vendorThingID: name, _password: 'pw', _thingType: 'lamp', custom: '50%' })
    await thing.registerOwner(anna)
    assert.ok((await thing.isOwner(anna))[2])
    const loaded = await KiiThing.loadWithThingID(thing.getThingID())
    loaded.fields.custom = 'new'
    await loaded.update()
    await loaded.refresh()
    assert.deepStrictEqual([loaded.fields.custom, loaded.isOnline()], ['new', false])
    await loaded.bucketWithName('readings').createObject().save()
    await loaded.pushSubscription().subscribe(loaded.bucketWithName('readings'))
    return loaded
  })
  await step('an administrator works for others', async () => {
    const admin = await Kii.authenticateAsAppAdmin(app.clientID, app.clientSecret)
    const [, found] = await admin.findUserByUsername(`anna-${serial}`)
    assert.strictEqual(found.getEmailAddress(), email)
    found.set('byAdmin', 1)
    await found.save()
    const group = await admin.groupWithName('of the admin', [found]).saveWithOwner(anna.getID())
    await admin.registerGroupWithOwnerAndID(`admin-${serial}`, 'named', anna.getID(), [found])
    await admin.registerOwnerWithVendorThingID(name, group)
    const loaded = await admin.loadThingWithVendorThingID(name)
    await loaded.updatePassword('another')
    await Kii.authenticateAsThing(name, 'another')
    const topic = admin.topicWithName(`news-${serial}`)
    await topic.save()
    await found.pushSubscription().subscribe(topic)
    await topic.sendMessage(new KiiPushMessageBuilder({ x: 1 }).build())
    await topic.deleteTopic()
  })
  await step('delete a thing', () => thing.deleteThing())
}

async function main () {
  Kii.initializeWithSite(app.appID, app.appKey, `${ready.http}/api`)
  const { anna, ben } = await users()
  const group = await groups(anna, ben)
  await objects(Kii.bucketWithName(`app-${serial}`), 'app')
  await objects(anna.bucketWithName('own'), 'user')
  await objects(group.bucketWithName('shared'), 'group')
  await rights(anna, ben, group)
  await bodies(anna)
  await things(anna)
  process.exit(0)
}

main()

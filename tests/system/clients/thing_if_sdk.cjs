// The service's library for owners of things, unmodified: node thing_if_sdk.cjs READY.json
// Prints one line of JSON a step; a step that fails ends the run with exit code 1.
'use strict'
const assert = require('node:assert')
const fs = require('node:fs')
const thingIf = require('thing-if-sdk')

const ready = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
const app = ready.app

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

async function call (method, path, type, body, token) {
  const authorization = token ? `Bearer ${token}` : `Basic ${Buffer.from(`${app.appID}:${app.appKey}`).toString('base64')}`
  const headers = { authorization, 'content-type': type }
  const answer = await fetch(ready.http + path, { method, headers, body: JSON.stringify(body) })
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`)
  return answer.status === 204 ? null : answer.json()
}

async function main () {
  const user = await call('POST', `/api/apps/${app.appID}/users`, 'application/vnd.kii.RegistrationAndAuthorizationRequest+json', {})
  const owner = new thingIf.TypedID(thingIf.Types.User, user.userID)
  const place = new thingIf.App(app.appID, app.appKey, ready.http)
  const api = new thingIf.ThingIFAPI(owner, user._accessToken, place)
  const name = `lamp-${Date.now()}`
  const made = await step('onboard by vendor ID', () => api.onboardWithVendorThingID(new thingIf.OnboardWithVendorThingIDRequest(name, 'pw', owner, 'LED', { maker: 'x' })))
  assert.ok(made.mqttEndPoint.mqttTopic)
  await step('onboard by ID', async () => {
    const again = new thingIf.ThingIFAPI(owner, user._accessToken, place)
    const found = await again.onboardWithThingID(new thingIf.OnboardWithThingIDRequest(made.thingID, 'pw', owner))
    assert.strictEqual(found.mqttEndPoint.installationID, made.mqttEndPoint.installationID)
  })
  const order = new thingIf.PostCommandRequest('LED', 1, [{ turnPower: { power: true } }], owner, 'title', 'description', { k: 1 })
  const command = await step('command', () => api.postNewCommand(order))
  const target = `/thing-if/apps/${app.appID}/targets/thing:${made.thingID}`
  const results = { actionResults: [{ turnPower: { succeeded: true } }] }
  await call('PUT', `${target}/commands/${command.commandID}/action-results`, 'application/json', results, made.accessToken)
  await step('what became of it', async () => {
    const got = await api.getCommand(command.commandID)
    assert.deepStrictEqual([got.commandState, got.schema, got.schemaVersion, got.title], ['DONE', 'LED', 1, 'title'])
    assert.deepStrictEqual([got.issuerID.toString(), got.targetID.toString()], [owner.toString(), `thing:${made.thingID}`])
    assert.ok(got.created)
  })
  await step('list commands by pages', async () => {
    await api.postNewCommand(order)
    const first = await api.listCommands(new thingIf.ListQueryOptions(1))
    assert.deepStrictEqual([first.results.length, first.hasNext], [1, true])
    const second = await api.listCommands(new thingIf.ListQueryOptions(1, first.paginationKey))
    assert.strictEqual(second.results.length, 1)
  })
  await step('state', async () => {
    await call('PUT', `${target}/states`, 'application/json', { power: true }, made.accessToken)
    assert.deepStrictEqual(await api.getState(), { power: true })
  })
  await step('install and uninstall a phone', async () => api.uninstallPush(await api.installFCM('token'.repeat(30), true)))
  await step('another vendor ID', async () => {
    assert.strictEqual(await api.getVendorThingID(), name)
    await api.updateVendorThingID(`new-${name}`, 'another')
    assert.strictEqual(await api.getVendorThingID(), `new-${name}`)
  })
  process.exit(0)
}

main()

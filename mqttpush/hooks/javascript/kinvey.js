// Kinvey's side of a run (spec kinvey 8.3 to 8.7): request, response and modules. Loaded by
// `prelude.js` as a module whose export starts the script's function.
"use strict";

// What of the arguments is not the callback, and the callback: the first function there is.
function split(values) {
  const given = { __proto__: null, callback: undefined, length: values.length };
  for (let i = 0; i < values.length; i++) {
    if (typeof values[i] === "function") {
      given.callback = values[i];
      given.length = i;
      break;
    }
    given[i] = values[i];
  }
  return given;
}

const isObject = (value) => typeof value === "object" && value !== null;

function makeRequest(call, store) {
  const { request } = call;
  const made = {
    method: request.method,
    headers: request.headers ?? {},
    body: request.body ?? {},
    params: request.params ?? {},
    username: request.username,
    userId: request.userId,
    collectionName: request.collectionName ?? call.objectName,
    appKey: request.appKey ?? call.app.appKey,
    tempObjectStore: store,
  };
  if (request.entityId != null) made.entityId = request.entityId;
  return made;
}

function makeStore(values) {
  return {
    get: (key) => values[key],
    set(key, value) { values[key] = value; },
    getAll: () => values,
  };
}

// The request as the script left it: what of it counts, as JSON texts.
function requestParts(request, temporary, properties) {
  const { stringify } = core;
  return (
    '{"body":' + (stringify(request.body) ?? "null") +
    ',"params":' + (stringify(request.params) ?? "null") +
    ',"tempObjectStore":' + (stringify(temporary) ?? "null") +
    ',"customRequestProperties":' + (stringify(properties) ?? "null") + "}"
  );
}

// Scripts assign JSON text as well as values.
function bodyText(body) {
  if (typeof body === "string" && /^\s*[[{]/.test(body)) {
    try {
      return core.stringify(core.parse(body));
    } catch (error) {
      return core.stringify(body);
    }
  }
  return core.stringify(body);
}

function makeResponse(call, leave) {
  const isPost = call.hookType === "post";
  const isEndpoint = call.hookType === "customEndpoint";
  let status = call.response.status ?? 0;
  const isStatus = (value) => core.isWhole(value) && value >= 100 && value <= 599;

  function end(isFinal, given) {
    if (given === undefined) given = status || 200;
    core.finish({
      __proto__: null,
      final: isFinal ? "true" : "false",
      status: core.stringify(isStatus(given) ? given : 200),
      headers: core.stringify(response.headers),
      body: bodyText(response.body),
      request: leave(),
    });
  }

  const response = {
    body: call.response.body ?? {},
    headers: call.response.headers ?? {},
    get status() { return status; },
    set status(value) { status = value; },
    get statusCode() { return status; },
    set statusCode(value) { status = value; },
    complete(given) { end(true, given); },
    continue() { end(isEndpoint); },
    error(problem) {
      const text = problem === undefined ? "" : core.textOf(problem);
      core.finish({ __proto__: null, error: core.stringify("UserDefinedError: " + text) });
    },
  };
  if (isPost && call.response.body === null) response.body = null;
  return response;
}

function makePush() {
  const { ask, later } = core;
  const missing = (name, callback) =>
    later(callback, new TypeError("The " + name + " of the push is missing"));

  function sendMessage(...values) {
    const given = split(values);
    if (given[0] == null) return missing("'users' argument", given.callback);
    if (given[1] == null) return missing("'message' argument", given.callback);
    ask("push", "sendMessage", [given[0], given[1]], given.callback);
  }
  function sendPayload(...values) {
    const given = split(values);
    if (given[0] == null) return missing("'users' argument", given.callback);
    ask("push", "sendPayload", [given[0], given[1], given[2], given[3]], given.callback);
  }
  function broadcastMessage(...values) {
    const given = split(values);
    if (given[0] == null) return missing("'message' argument", given.callback);
    ask("push", "broadcastMessage", [given[0]], given.callback);
  }
  function broadcastPayload(...values) {
    const given = split(values);
    ask("push", "broadcastPayload", [given[0], given[1], given[2]], given.callback);
  }
  return {
    send: sendMessage, sendMessage, sendPayload,
    broadcast: broadcastMessage, broadcastMessage, broadcastPayload,
  };
}

// Lenient as real scripts are: a query may be JSON text, options may be a list of fields.
function queryOf(value) {
  if (typeof value === "string") return core.parse(value);
  return value ?? {};
}

function optionsOf(value) {
  if (core.isArray(value)) return value.length ? { fields: value } : {};
  return isObject(value) ? value : {};
}

function makeCollections(call) {
  // By method: how many arguments are queries or documents before the options.
  const shapes = {
    __proto__: null,
    find: (given) => [queryOf(given[0]), optionsOf(given[1])],
    findOne: (given) => [queryOf(given[0]), optionsOf(given[1])],
    insert: (given) => [given[0], optionsOf(given[1])],
    save: (given) => [given[0], optionsOf(given[1])],
    update: (given) => [queryOf(given[0]), given[1], optionsOf(given[2])],
    remove: (given) => [queryOf(given[0]), optionsOf(given[1])],
    findAndModify: (given) =>
      [queryOf(given[0]), given[1] ?? {}, given[2], optionsOf(given[3])],
    findAndRemove: (given) => [queryOf(given[0]), given[1] ?? {}, optionsOf(given[2])],
    distinct: (given) => [given[0], queryOf(given[1]), optionsOf(given[2])],
    count: (given) => [queryOf(given[0])],
  };
  const objectID = (value) => (value == null ? value : String(value));

  function collection(name) {
    const handle = { objectID, collectionName: name };
    for (const method in shapes) {
      handle[method] = (...values) => {
        const given = split(values);
        const shaped = shapes[method](given);
        const sent = [name, shaped[0], shaped[1], shaped[2], shaped[3]];
        sent.length = shaped.length + 1;
        core.ask("collectionAccess", method, sent, given.callback);
      };
    }
    return handle;
  }

  function collectionExists(name, callback) {
    const known = call.app.collections;
    if (typeof callback === "function") {
      core.ask("collectionAccess", "collectionExists", [name], callback);
    }
    if (!core.isArray(known)) return undefined;
    for (let i = 0; i < known.length; i++) if (known[i] === name) return true;
    return false;
  }
  return { collection, collectionExists, objectID };
}

const DATE = /^ISODate\("(.+)"\)$/;

function toKinveyDateString(date) {
  if (date == null) return null;
  if (typeof date === "string" && DATE.test(date)) return date;
  const isDate = date instanceof Date || typeof date.toISOString === "function";
  if (typeof date !== "string" && !isDate) return null;
  const read = new Date(date);
  return isNaN(read) ? "Invalid date" : 'ISODate("' + read.toISOString() + '")';
}

function fromKinveyDateString(text, format = "date") {
  const found = typeof text === "string" ? DATE.exec(text) : null;
  if (!found) return "Invalid date";
  if (format === "date") return new Date(found[1]);
  if (format === "moment") return globalThis.moment(found[1]);
  return format === "string" ? found[1] : "Invalid Format.";
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// Of the text's UTF-8 bytes; the engine's own btoa takes Latin-1 only.
function encodeBase64(text) {
  const bytes = unescape(encodeURIComponent(String(text).toWellFormed()));
  let encoded = "";
  for (let i = 0; i < bytes.length; i += 3) {
    const group =
      (bytes.charCodeAt(i) << 16) | ((bytes.charCodeAt(i + 1) || 0) << 8) |
      (bytes.charCodeAt(i + 2) || 0);
    encoded += ALPHABET[group >> 18] + ALPHABET[(group >> 12) & 63];
    encoded += i + 1 < bytes.length ? ALPHABET[(group >> 6) & 63] : "=";
    encoded += i + 2 < bytes.length ? ALPHABET[group & 63] : "=";
  }
  return encoded;
}

function decodeBase64(text) {
  let bytes = "";
  let bits = 0;
  let held = 0;
  for (const letter of String(text)) {
    const value = ALPHABET.indexOf(letter === "-" ? "+" : letter === "_" ? "/" : letter);
    if (value < 0) continue;
    held = (held << 6) | value;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes += String.fromCharCode((held >> bits) & 255);
      held &= (1 << bits) - 1;
    }
  }
  try {
    return decodeURIComponent(escape(bytes));
  } catch (error) {
    return bytes; // not UTF-8: one character a byte
  }
}

function makeUtils(call, store) {
  let made = 0;
  const hex = (number, digits) => number.toString(16).padStart(digits, "0");

  // As MongoDB makes them: time, this run, counter.
  function newId() {
    return hex(Math.floor(core.now() / 1000), 8) + call.seed + hex(++made, 6);
  }

  function kinveyEntity(given) {
    const entity = isObject(given) ? given : {};
    if (!isObject(given) && given != null) entity._id = String(given);
    entity._id = entity._id ?? newId();
    const at = new Date(core.now()).toISOString();
    entity._acl = entity._acl ?? {};
    entity._acl.creator = entity._acl.creator ?? call.request.userId ?? call.app.appKey;
    entity._kmd = entity._kmd ?? {};
    entity._kmd.ect = entity._kmd.ect ?? at;
    entity._kmd.lmt = entity._kmd.lmt ?? at;
    return entity;
  }

  function renderTemplate(template, values) {
    const escape = call.app.templateEscape === false ? { escape: String } : undefined;
    return core.mustache.render(String(template), values ?? {}, {}, escape);
  }

  return {
    renderTemplate, kinveyEntity, tempObjectStore: store,
    base64: { encode: encodeBase64, decode: decodeBase64 },
    convert: { toKinveyDateString, fromKinveyDateString },
  };
}

function makeVersion(text) {
  const parts = typeof text === "string" ? text.split(".") : [];
  const number = (part) => (/^\d+$/.test(part ?? "") ? Number(part) : NaN);
  return {
    stringValue: () => text ?? null,
    majorVersion: () => number(parts[0]),
    minorVersion: () => number(parts[1]),
    patchVersion: () => number(parts[2]),
  };
}

function makeContexts(call, properties) {
  const { app, request } = call;
  const getAuthenticatedUsername = () => request.username ?? null;
  const getSecurityContext = () => request.securityContext ?? "unknown";
  return {
    backendContext: {
      getAppKey: () => app.appKey ?? null,
      getAppSecret: () => app.appSecret ?? null,
      getMasterSecret: () => app.masterSecret ?? null,
      getAuthenticatedUsername, getSecurityContext,
    },
    requestContext: {
      getAuthenticatedUserId: () => request.userId ?? null,
      getAuthenticatedUsername, getSecurityContext,
      getCustomRequestProperty: (name) => properties[name],
      setCustomRequestProperty(name, value) { properties[name] = value; },
      clientAppVersion: makeVersion(request.clientAppVersion),
    },
  };
}

function sendEmail(...values) {
  const given = split(values);
  const mail = [];
  for (let i = 0; i < 8; i++) mail[i] = given[i] ?? null;
  for (let i = 0; i < 4; i++) {
    if (mail[i] === null) {
      const name = ["from", "to", "subject", "textBody"][i];
      return core.later(given.callback, new TypeError("The '" + name + "' of the mail is missing"));
    }
  }
  core.ask("email", "send", mail, given.callback);
}

function doValidation(spec, data) {
  const failures = [];
  const fail = (attr, msg) => failures.push({ attr, valid: false, msg });
  for (const attr of Object.keys(spec ?? {})) {
    const rule = spec[attr] ?? {};
    const value = data == null ? undefined : data[attr];
    if (value === undefined || value === null) {
      if (rule.required) fail(attr, attr + " is required");
      continue;
    }
    const patterns = rule.pattern === undefined ? [] : [].concat(rule.pattern);
    for (const pattern of patterns) {
      if (!new RegExp(pattern).test(String(value))) {
        fail(attr, attr + " does not match " + pattern);
      }
    }
  }
  return failures;
}

module.exports = function begin(run) {
  const { call, lazily, load, write } = core;
  const temporary = call.request.tempObjectStore ?? {};
  const properties = call.request.customRequestProperties ?? {};
  const store = makeStore(temporary);
  const request = makeRequest(call, store);
  const response = makeResponse(call, () => requestParts(request, temporary, properties));
  const say = (level) => (message) => write(level, message);
  const modules = {
    push: makePush(),
    collectionAccess: makeCollections(call),
    utils: makeUtils(call, store),
    logger: { info: say("info"), warn: say("warn"), error: say("error"), fatal: say("fatal") },
    email: { send: sendEmail },
    validation: { doValidation },
    tempObjectStore: store,
    ...makeContexts(call, properties),
  };
  lazily(core, "mustache", () => load("mustache"));
  lazily(modules, "Query", () => load("query"));
  lazily(modules, "async", () => globalThis.async);
  lazily(modules, "moment", () => globalThis.moment);
  lazily(modules, "underscore", () => globalThis._);
  return run(request, response, modules);
};

// Kinvey's side of a run (spec kinvey 8.3 to 8.6): request and response. Loaded by `prelude.js` as a
// module whose export starts the script's function. A module is loaded when the script names it,
// because each engine serves one run, and parsing is most of what making one takes.
"use strict";

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

// Scripts assign JSON text as well as values. What has no JSON (undefined) is an empty object.
function bodyText(body) {
  if (typeof body === "string" && /^\s*[[{]/.test(body)) {
    try {
      return core.stringify(core.parse(body));
    } catch (error) {
      return core.stringify(body);
    }
  }
  return core.stringify(body) ?? "{}";
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

module.exports = function begin(run) {
  const { call, lazily, load, write } = core;
  const temporary = call.request.tempObjectStore ?? {};
  const properties = call.request.customRequestProperties ?? {};
  const store = makeStore(temporary);
  const request = makeRequest(call, store);
  const response = makeResponse(call, () => requestParts(request, temporary, properties));
  const say = (level) => (message) => write(level, message);
  const modules = {
    logger: { info: say("info"), warn: say("warn"), error: say("error"), fatal: say("fatal") },
    tempObjectStore: store,
  };
  lazily(modules, "push", () => load("push"));
  lazily(modules, "collectionAccess", () => load("collection_access")(call));
  lazily(modules, "utils", () => load("utils")(call, store));
  lazily(modules, "email", () => load("email"));
  lazily(modules, "validation", () => load("validation"));
  lazily(modules, "backendContext", () => load("contexts").backendContext(call));
  lazily(modules, "requestContext", () => load("contexts").requestContext(call, properties));
  lazily(modules, "Query", () => load("query"));
  lazily(modules, "async", () => globalThis.async);
  lazily(modules, "moment", () => globalThis.moment);
  lazily(modules, "underscore", () => globalThis._);
  return run(request, response, modules);
};

// Kii's side of a run (spec kii 11): `function name(params, context, done)` and, of Kii's JavaScript
// SDK, what server code needs to write objects and to send messages. Every request is one of the
// REST API below the app, made as its administrator (`api.request`).
"use strict";

const encode = encodeURIComponent;

// Resolves with the answer's body. KII's SDK takes `{success, failure}` and returns a promise.
function request(method, path, body, type) {
  return new Promise((resolve, reject) => {
    core.ask("api", "request", [method, path, body ?? null, type ?? null], (error, answer) => {
      if (error) return reject(error);
      const { status } = answer;
      const content = answer.body ?? {};
      if (status < 400) return resolve({ status, headers: answer.headers ?? {}, body: content });
      const refused = new Error(content.message ?? content.errorCode ?? "status " + status);
      refused.errorCode = content.errorCode;
      refused.status = status;
      return reject(refused);
    });
  });
}

// results: what callbacks are given one by one, and the promise as an array (or alone).
function tell(promise, target, callbacks, results) {
  const told = promise.then(results, (error) => {
    error.target = target;
    if (callbacks?.failure) {
      callbacks.failure(target, error.message);
      return undefined;
    }
    throw error;
  });
  if (!callbacks?.success) return told;
  return told.then((values) => {
    if (values === undefined) return values;
    callbacks.success(...(Array.isArray(values) ? values : [values]));
    return values;
  });
}

const TYPE = (name) => "application/vnd.kii." + name + "+json";

class KiiObject {
  constructor(bucket, id, fields) {
    this.bucket = bucket;
    this.id = id ?? null;
    this.fields = fields ?? {};
    this.isPartial = false;
  }

  set(key, value) { this.fields[key] = value; }
  get(key) { return this.fields[key]; }
  remove(key) { delete this.fields[key]; }
  getKeys() { return Object.keys(this.fields).filter((key) => key[0] !== "_"); }
  getUUID() { return this.id; }
  getID() { return this.id; }
  getCreated() { return this.fields._created; }
  getModified() { return this.fields._modified; }
  objectURI() { return this.id && "kiicloud:/" + this.path(); }
  path() { return this.bucket.path + "/objects/" + encode(this.id); }

  own() {
    const own = {};
    for (const key of this.getKeys()) own[key] = this.fields[key];
    return own;
  }

  save(callbacks) {
    const sent = this.id
      ? request("PUT", this.path(), this.own(), "application/json")
      : request("POST", this.bucket.path + "/objects", this.own(), "application/json");
    return tell(sent, this, callbacks, ({ body }) => {
      this.id = body.objectID ?? this.id;
      this.fields._created = body.createdAt ?? this.fields._created;
      this.fields._modified = body.modifiedAt ?? body.createdAt ?? this.fields._modified;
      return this;
    });
  }

  saveAllFields(callbacks) { return this.save(callbacks); }

  refresh(callbacks) {
    return tell(request("GET", this.path()), this, callbacks, ({ body }) => {
      this.fields = body;
      return this;
    });
  }

  delete(callbacks) {
    return tell(request("DELETE", this.path()), this, callbacks, () => this);
  }
}

class KiiBucket {
  constructor(scope, name) {
    this.name = name;
    this.path = scope + "/buckets/" + encode(name);
  }

  getBucketName() { return this.name; }
  createObject() { return new KiiObject(this); }
  createObjectWithID(id) { return new KiiObject(this, id); }

  executeQuery(query, callbacks) {
    const asked = query ?? new KiiQuery();
    const sent = request("POST", this.path + "/query", asked.toRequest(), TYPE("QueryRequest"));
    return tell(sent, this, callbacks, ({ body }) => {
      const found = body.results.map((fields) => new KiiObject(this, fields._id, fields));
      const next = body.nextPaginationKey ? asked.after(body.nextPaginationKey) : null;
      return [asked, found, next];
    });
  }

  delete(callbacks) { return tell(request("DELETE", this.path), this, callbacks, () => this); }
}

class KiiTopic {
  constructor(scope, name) {
    this.name = name;
    this.path = scope + "/topics/" + encode(name);
  }

  getName() { return this.name; }
  save(callbacks) { return tell(request("PUT", this.path), this, callbacks, () => this); }
  exists() {
    return request("HEAD", this.path).then(() => true, (error) => {
      if (error.status === 404) return false;
      throw error;
    });
  }

  sendMessage(message, callbacks) {
    return tell(sendTo(this.path, message), this, callbacks, () => [this, message]);
  }
}

function sendTo(path, message) {
  return request("POST", path + "/push/messages", message, TYPE("SendPushMessageRequest"));
}

// An app, user, group or thing: where buckets and topics are.
class Scope {
  constructor(path, id) {
    this.path = path;
    this.id = id;
  }

  getID() { return this.id; }
  getUUID() { return this.id; }
  bucketWithName(name) { return new KiiBucket(this.path, name); }
  topicWithName(name) { return new KiiTopic(this.path, name); }

  // A direct push to the devices of a user or thing.
  pushMessage(message, callbacks) {
    return tell(sendTo(this.path, message), this, callbacks, () => [this, message]);
  }
}

class KiiAppAdminContext extends Scope {
  constructor() { super("", null); }
  userWithID(id) { return new Scope("/users/" + encode(id), id); }
  groupWithID(id) { return new Scope("/groups/" + encode(id), id); }
  thingWithID(id) { return new Scope("/things/" + encode(id), id); }
  request(method, path, body, type) { return request(method, path, body, type); }
}

class KiiClause {
  constructor(clause) { this.clause = clause; }
  static all() { return new KiiClause({ type: "all" }); }
  static equals(field, value) { return new KiiClause({ type: "eq", field, value }); }
  static notEquals(field, value) { return KiiClause.not(KiiClause.equals(field, value)); }
  static not(inner) { return new KiiClause({ type: "not", clause: inner.clause }); }
  static and(...all) { return KiiClause.join("and", all); }
  static or(...all) { return KiiClause.join("or", all); }
  static join(type, all) {
    return new KiiClause({ type, clauses: all.flat().map((one) => one.clause) });
  }
  static inClause(field, values) { return new KiiClause({ type: "in", field, values }); }
  static startsWith(field, prefix) { return new KiiClause({ type: "prefix", field, prefix }); }
  static greaterThan(field, value) { return KiiClause.above(field, value, false); }
  static greaterThanOrEqual(field, value) { return KiiClause.above(field, value, true); }
  static lessThan(field, value) { return KiiClause.below(field, value, false); }
  static lessThanOrEqual(field, value) { return KiiClause.below(field, value, true); }
  static above(field, lowerLimit, lowerIncluded) {
    return new KiiClause({ type: "range", field, lowerLimit, lowerIncluded });
  }
  static below(field, upperLimit, upperIncluded) {
    return new KiiClause({ type: "range", field, upperLimit, upperIncluded });
  }
}

class KiiQuery {
  constructor(clause) {
    this.clause = clause ?? KiiClause.all();
    this.more = {};
    this.order = {};
  }
  static queryWithClause(clause) { return new KiiQuery(clause); }
  setLimit(limit) { this.more.bestEffortLimit = limit; }
  sortByAsc(field) { this.order = { orderBy: field, descending: false }; }
  sortByDesc(field) { this.order = { orderBy: field, descending: true }; }
  toRequest() {
    return { bucketQuery: { clause: this.clause.clause, ...this.order }, ...this.more };
  }
  after(paginationKey) {
    const next = new KiiQuery(this.clause);
    next.order = this.order;
    next.more = { ...this.more, paginationKey };
    return next;
  }
}

// `new KiiPushMessageBuilder(data).build()` is the body of a push message request (spec kii 8).
class KiiPushMessageBuilder {
  constructor(data) {
    this.message = {
      data: data ?? {},
      gcm: { enabled: true }, fcm: { enabled: true }, apns: { enabled: true },
      jpush: { enabled: true }, mqtt: { enabled: true }, webpush: { enabled: true },
    };
  }

  put(network, key, value) {
    const networks = network === "gcm" ? ["gcm", "fcm"] : [network];
    for (const name of networks) this.message[name][key] = value;
    return this;
  }

  setSendToDevelopment(value) { this.message.sendToDevelopment = value; return this; }
  setSendToProduction(value) { this.message.sendToProduction = value; return this; }
  setPushMessageType(value) { this.message.pushMessageType = value; return this; }
  setSendSender(value) { this.message.sendSender = value; return this; }
  setSendWhen(value) { this.message.sendWhen = value; return this; }
  setSendOrigin(value) { this.message.sendOrigin = value; return this; }
  setSendObjectScope(value) { this.message.sendObjectScope = value; return this; }
  setSendTopicID(value) { this.message.sendTopicID = value; return this; }
  enableGcm(value) { return this.put("gcm", "enabled", value); }
  enableApns(value) { return this.put("apns", "enabled", value); }
  enableJpush(value) { return this.put("jpush", "enabled", value); }
  enableMqtt(value) { return this.put("mqtt", "enabled", value); }
  gcmData(value) { return this.put("gcm", "data", value); }
  gcmCollapseKey(value) { return this.put("gcm", "collapseKey", value); }
  gcmTimeToLive(value) { return this.put("gcm", "timeToLive", value); }
  apnsData(value) { return this.put("apns", "data", value); }
  apnsAlert(value) {
    return this.put("apns", "alert", typeof value === "string" ? { body: value } : value);
  }
  apnsSound(value) { return this.put("apns", "sound", value); }
  apnsBadge(value) { return this.put("apns", "badge", value); }
  apnsCategory(value) { return this.put("apns", "category", value); }
  apnsContentAvailable(value) {
    return this.put("apns", "contentAvailable", value === true || value > 0);
  }
  jpushData(value) { return this.put("jpush", "data", value); }
  mqttData(value) { return this.put("mqtt", "data", value); }
  build() { return this.message; }
}

module.exports = function begin(run) {
  const { call } = core;
  const admin = new KiiAppAdminContext();
  const context = {
    getAppID: () => call.app.appKey ?? call.appId,
    getAppKey: () => call.app.appSecret ?? null,
    getAccessToken: () => null,
    getAppAdminContext: () => admin,
  };
  Object.assign(globalThis, { KiiQuery, KiiClause, KiiPushMessageBuilder });

  function done(value) {
    core.finish({ __proto__: null, final: "true", body: core.stringify(value ?? null) });
  }
  const returned = run(call.request.body ?? {}, context, done);
  if (returned && typeof returned.then === "function") {
    // A promise ends the run, unless the function says with `done` when it ends.
    return run.length < 3 ? returned.then(done) : returned;
  }
  if (run.length < 3) done(returned);
  return undefined;
};

// `modules.push` (spec kinvey 8.7).
"use strict";

const { ask, later, split } = core;
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

module.exports = {
  send: sendMessage, sendMessage, sendPayload,
  broadcast: broadcastMessage, broadcastMessage, broadcastPayload,
};

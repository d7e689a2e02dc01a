// `modules.utils` (spec kinvey 8.7): templates, entities, base64, dates.
"use strict";

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

module.exports = function makeUtils(call, store) {
  let made = 0;
  let mustache = null;
  const hex = (number, digits) => number.toString(16).padStart(digits, "0");

  // As MongoDB makes them: time, this run, counter.
  function newId() {
    return hex(Math.floor(core.now() / 1000), 8) + call.seed + hex(++made, 6);
  }

  function kinveyEntity(given) {
    const entity = core.isObject(given) ? given : {};
    if (!core.isObject(given) && given != null) entity._id = String(given);
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
    mustache = mustache ?? core.load("mustache");
    return mustache.render(String(template), values ?? {}, {}, escape);
  }

  return {
    renderTemplate, kinveyEntity, tempObjectStore: store,
    base64: { encode: encodeBase64, decode: decodeBase64 },
    convert: { toKinveyDateString, fromKinveyDateString },
  };
};

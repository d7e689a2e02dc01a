// `modules.validation` (spec kinvey 8.7).
"use strict";

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

module.exports = { doValidation };

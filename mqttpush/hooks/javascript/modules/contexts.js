// `modules.backendContext` and `modules.requestContext` (spec kinvey 8.7).
"use strict";

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

const ofCaller = ({ request }) => ({
  getAuthenticatedUsername: () => request.username ?? null,
  getSecurityContext: () => request.securityContext ?? "unknown",
});

module.exports = {
  backendContext: (call) => ({
    getAppKey: () => call.app.appKey ?? null,
    getAppSecret: () => call.app.appSecret ?? null,
    getMasterSecret: () => call.app.masterSecret ?? null,
    ...ofCaller(call),
  }),
  requestContext: (call, properties) => ({
    getAuthenticatedUserId: () => call.request.userId ?? null,
    getCustomRequestProperty: (name) => properties[name],
    setCustomRequestProperty(name, value) { properties[name] = value; },
    clientAppVersion: makeVersion(call.request.clientAppVersion),
    ...ofCaller(call),
  }),
};

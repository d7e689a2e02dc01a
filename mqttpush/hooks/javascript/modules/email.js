// `modules.email` (spec kinvey 8.7).
"use strict";

function sendEmail(...values) {
  const given = core.split(values);
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

module.exports = { send: sendEmail };

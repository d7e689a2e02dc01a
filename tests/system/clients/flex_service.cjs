// A Flex service on the stock SDK: a hook before, a hook after, an endpoint; the last two push.
"use strict";

const sdk = require("kinvey-flex-sdk");

const [port, sharedSecret] = process.argv.slice(2);

sdk.service({ host: "127.0.0.1", port: Number(port), sharedSecret }, (error, flex) => {
  if (error) throw error;

  flex.functions.register("stamp", (context, complete, modules) => {
    modules.tempObjectStore.set("stamped", context.body.text);
    const body = Object.assign({}, context.body, { by: modules.requestContext.getAuthenticatedUsername() });
    complete().setBody(body).next();
  });

  flex.functions.register("tell", (context, complete, modules) => {
    const text = "stored " + modules.tempObjectStore.get("stamped");
    const user = { _id: modules.requestContext.getAuthenticatedUserId() };
    modules.push.sendMessage(user, text)
      .then((sent) => complete().setBody(Object.assign({ sent: sent.users }, context.body)).next())
      .catch((problem) => complete().runtimeError(problem).done());
  });

  flex.functions.register("announce", (context, complete, modules) => {
    modules.push.broadcastMessage(context.body.text)
      .then((sent) => complete().setBody({ messageId: sent.messageId }).created().done())
      .catch((problem) => complete().runtimeError(problem).done());
  });

  flex.functions.register("copy", (context, complete, modules) => {
    const copies = modules.dataStore({ useBl: true }).collection("copied");
    copies.save({ text: context.body.text }, (problem, saved) =>
      problem ? complete().runtimeError(problem).done() : complete().setBody(saved).ok().done());
  });

  flex.functions.register("refuse", (context, complete) => {
    complete().badRequest("not like this").done();
  });

  process.stdout.write("ready\n");
});

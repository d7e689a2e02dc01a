// The run inside the engine: what the worker calls, and what a script's modules stand on.
//
// The worker calls `enter(command, text)` and gets one line of state, then JSON for the server. There
// is no function of the host in here: a module call adds a line to `asks`, and its callback runs when
// the answer comes back through `enter`. Functions of the language are taken before any script runs,
// so a script that changes prototypes deceives itself only.
(function (libraries) {
  "use strict";
  const globals = globalThis;
  const { parse, stringify } = JSON;
  const { apply, defineProperty, getOwnPropertyDescriptor: getDescriptor } = Reflect;
  const { now } = Date;
  const evaluate = globals.eval;
  const enqueue = globals.queueMicrotask;
  const inherited = Reflect.getPrototypeOf(globals);
  const isArray = Array.isArray;
  const create = Object.create;
  const ErrorType = Error;
  const RangeErrorType = RangeError;
  const RegExpType = RegExp;
  const toText = String;
  const isWhole = Number.isInteger;
  const larger = Math.max;
  const isObject = (value) => typeof value === "object" && value !== null;
  const { join } = Array.prototype;
  const PromiseType = Promise;
  const thenOf = Promise.prototype.then;
  const LONGEST_DELAY = 2147483647; // a longer one is none, as in browsers and Node

  let asks = "";
  let askCount = 0;
  let askSize = 0;
  let log = "";
  let logRoom = 0;
  let done = "";
  let isDone = false;
  let violation = "";
  let outstanding = 0;
  let lastId = 0;
  let limits = null;
  const callbacks = create(null);
  const timers = create(null);

  // Errors and regular expressions have no JSON of their own; queries may hold the latter.
  function plain(key, value) {
    if (value instanceof RegExpType) {
      const query = create(null);
      query.$regex = value.source;
      if (value.flags) query.$options = value.flags;
      return query;
    }
    return value;
  }

  function textOf(value) {
    if (typeof value === "string") return value;
    if (value instanceof ErrorType && !("description" in value)) {
      return value.name + ": " + value.message;
    }
    if (isObject(value)) {
      try {
        return stringify(value, plain) ?? "undefined";
      } catch (error) {
        return "(an object that cannot be shown)";
      }
    }
    return toText(value);
  }

  function write(level, message) {
    if (logRoom <= 0) return;
    let text = textOf(message);
    const isCut = text.length > logRoom;
    if (isCut) text = apply(globals.String.prototype.slice, text, [0, logRoom]) + " (log cut)";
    logRoom = isCut ? 0 : logRoom - text.length - 1;
    log += (log && ",") + '["' + level + '",' + stringify(text) + "]";
  }

  function violate(text) {
    violation = violation || text;
    throw new RangeErrorType(text);
  }

  function ask(module, name, values, callback) {
    if (++askCount > limits.asks) violate("more than " + limits.asks + " module calls");
    const text = stringify(values, plain);
    askSize += text.length;
    if (askSize > limits.askSize) violate("module calls of more than " + limits.askSize + " bytes");
    const id = ++lastId;
    callbacks[id] = callback || function (error) {
      if (error) write("error", module + "." + name + ": " + textOf(error));
    };
    outstanding++;
    asks += (asks && ",") + "[" + id + ',"' + module + '","' + name + '",' + text + "]";
  }

  function answer(text) {
    const reply = parse(text); // [id, error, result]
    const id = reply[0];
    const callback = callbacks[id];
    if (!callback) return;
    delete callbacks[id];
    outstanding--;
    callback(reply[1] && refusal(reply[1]), reply[2]);
  }

  function refusal({ error, description, debug }) {
    const refused = new ErrorType(description);
    refused.name = error;
    refused.error = error;
    refused.description = description;
    refused.debug = debug;
    defineProperty(refused, "name", { __proto__: null, enumerable: false });
    return refused;
  }

  // Calls back soon, never inside the call that asked for it.
  function later(callback, error, result) {
    if (callback) enqueue(() => callback(error, result));
    else if (error) write("error", error);
  }

  // What of a module call's arguments is not the callback, and the callback: the first function.
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

  function setTimer(callback, delay, values) {
    if (typeof callback !== "function") throw new TypeError("the callback is not a function");
    const id = ++lastId;
    const wait = +delay;
    timers[id] = { at: now() + (wait > 0 && wait <= LONGEST_DELAY ? wait : 0), callback, values };
    return id;
  }

  function nextTimer() {
    let next = 0;
    for (const id in timers) if (!next || timers[id].at < timers[next].at) next = id;
    return next;
  }

  function fireTimer() {
    const id = nextTimer();
    if (!id || timers[id].at > now()) return;
    const { callback, values } = timers[id];
    delete timers[id];
    apply(callback, undefined, values);
  }

  function load(name) {
    const module = { exports: {} };
    const wrapped = "(function (module, exports, define, core) {" + libraries[name] + "\n})";
    apply(evaluate(wrapped), globals, [module, module.exports, undefined, core]);
    return module.exports;
  }

  function lazily(target, name, make, enumerable = true) {
    // Without a prototype: what a script gave Object.prototype is no part of a descriptor of ours.
    const settle = (value) =>
      defineProperty(target, name, {
        __proto__: null, value, writable: true, configurable: true, enumerable,
      });
    defineProperty(target, name, {
      __proto__: null,
      configurable: true,
      enumerable,
      get() {
        settle(undefined); // libraries look whether their name is taken
        const value = make();
        settle(value);
        return value;
      },
      set: settle,
    });
  }

  // parts: JSON texts by name, without a prototype. Only the first end of a run counts.
  function finish(parts) {
    if (isDone) {
      write("warn", "the request is complete already; this call is ignored");
      return false;
    }
    let text = "";
    for (const name in parts) {
      const part = parts[name] ?? "null";
      if (part.length > limits.body) violate("an answer of more than " + limits.body + " bytes");
      text += (text && ",") + '"' + name + '":' + part;
    }
    done = "{" + text + "}";
    isDone = true;
    return true;
  }

  const core = {
    __proto__: null, ask, split, later, load, lazily, finish, write, textOf, isWhole, isObject, parse,
    stringify, plain, create, isArray, now, call: null,
  };

  function installGlobals() {
    delete globals.SharedArrayBuffer;
    delete globals.Atomics;
    const hide = (name, value) =>
      defineProperty(globals, name, { value, writable: true, configurable: true });
    hide("setTimeout", (callback, delay, ...values) => setTimer(callback, delay, values));
    hide("setImmediate", (callback, ...values) => setTimer(callback, 0, values));
    hide("clearTimeout", (id) => { delete timers[id]; });
    hide("clearImmediate", (id) => { delete timers[id]; });
    const say = (level) => (...values) => {
      let text = "";
      for (let i = 0; i < values.length; i++) text += (i ? " " : "") + textOf(values[i]);
      write(level, text);
    };
    hide("console", {
      log: say("info"), info: say("info"), debug: say("info"), warn: say("warn"), error: say("error"),
    });
    lazily(globals, "async", () => load("async"), false);
    lazily(globals, "moment", () => load("moment"), false);
    lazily(globals, "_", () => load("underscore"), false);
  }

  // Of the script's own: who may run an endpoint names it, and must not reach the language's. What
  // a script declares or assigns is enumerable, what was there before is not.
  function functionNamed(name) {
    const known = getDescriptor(globals, name);
    if (known && !known.enumerable) return undefined;
    const found = evaluate("typeof " + name + ' === "function" ? ' + name + " : undefined");
    return known || found !== inherited[name] ? found : undefined;
  }

  // Answers "missing" for a script that has not the function: who asked for it learns of that.
  function start(text) {
    const call = parse(text);
    limits = call.limits;
    logRoom = limits.log;
    core.call = call;
    const run = functionNamed(call.function);
    if (!run) return "missing";
    const promised = call.hookType === "serverCode" ? load("kii")(run) : kinvey(run);
    // Of an asynchronous function the exception is in its promise; what else it returns is nothing.
    if (promised instanceof PromiseType) {
      apply(thenOf, promised, [undefined, (error) => { enqueue(() => { throw error; }); }]);
    }
    return "";
  }

  // A line "outstanding wait" (ms, -1 for none), a line of what was violated, then JSON.
  function drain() {
    const next = nextTimer();
    const wait = next ? larger(0, timers[next].at - now()) : -1;
    let json = "";
    if (asks || log || done) {
      json = '{"asks":[' + asks + '],"log":[' + log + '],"done":' + (done || "null") + "}";
    }
    asks = log = done = "";
    askSize = 0;
    // Joined, because the host cannot read a text that is still a tree of pieces.
    return apply(join, [outstanding + " " + wait, violation, json], ["\n"]);
  }

  installGlobals();
  const kinvey = load("kinvey"); // ahead of the run; all else is loaded when it is used
  return function enter(command, text) {
    if (command === "start") return start(text);
    if (command === "answer") answer(text);
    else if (command === "timer") fireTimer();
    else if (command === "defines") return functionNamed(text) ? "yes" : "";
    else if (command === "drain") return drain();
    return "";
  };
})

// `modules.collectionAccess` (spec kinvey 8.7).
"use strict";

// Lenient as real scripts are: a query may be JSON text, options may be a list of fields.
function queryOf(value) {
  if (typeof value === "string") return core.parse(value);
  return value ?? {};
}

function optionsOf(value) {
  if (core.isArray(value)) return value.length ? { fields: value } : {};
  return core.isObject(value) ? value : {};
}

module.exports = function makeCollections(call) {
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
        const given = core.split(values);
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
};

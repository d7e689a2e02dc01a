// `modules.Query`: a chain of conditions, and what of it goes into a query string.
"use strict";

const OPERATORS = {
  notEqualTo: "$ne", greaterThan: "$gt", greaterThanOrEqualTo: "$gte", lessThan: "$lt",
  lessThanOrEqualTo: "$lte", exists: "$exists", size: "$size", mod: "$mod", contains: "$in",
  containsAll: "$all", notContainedIn: "$nin",
};
const LISTS = ["contains", "containsAll", "notContainedIn"];

class Query {
  constructor(options = {}) {
    this.filter = options.filter ?? {};
    this.fields = options.fields ?? [];
    this.sort = options.sort ?? {};
    this.limit = options.limit ?? null;
    this.skip = options.skip ?? 0;
  }

  equalTo(field, value) {
    this.filter[field] = value;
    return this;
  }

  matches(field, pattern, options = {}) {
    const source = pattern instanceof RegExp ? pattern.source : String(pattern);
    if (source[0] !== "^") throw new Error("the regular expression must start with ^");
    const ignoreCase = options.ignoreCase ?? (pattern instanceof RegExp && pattern.ignoreCase);
    return this.add(field, "$regex", source, ignoreCase ? { $options: "i" } : {});
  }

  near(field, point, maxDistance) {
    const limit = maxDistance === undefined ? {} : { $maxDistance: maxDistance };
    return this.add(field, "$nearSphere", [Number(point[0]), Number(point[1])], limit);
  }

  withinBox(field, low, high) {
    return this.add(field, "$within", { $box: [low, high] });
  }

  withinPolygon(field, points) {
    return this.add(field, "$within", { $polygon: points });
  }

  add(field, operator, value, more = {}) {
    const known = this.filter[field];
    const isOperators = typeof known === "object" && known !== null && !Array.isArray(known);
    this.filter[field] = { ...(isOperators ? known : {}), [operator]: value, ...more };
    return this;
  }

  and(...others) { return this.join("$and", others); }
  or(...others) { return this.join("$or", others); }
  nor(...others) { return this.join("$nor", others); }

  // Several: of this query and of those given.
  join(operator, others) {
    const filters = others.flat().map((other) => other.filter ?? other);
    this.filter = { [operator]: [this.filter, ...filters] };
    return this;
  }

  ascending(field) { this.sort[field] = 1; return this; }
  descending(field) { this.sort[field] = -1; return this; }

  toPlainObject() {
    const { filter, fields, sort, limit, skip } = this;
    return { filter, fields, sort, limit, skip };
  }

  toQueryString() {
    const text = {};
    if (Object.keys(this.filter).length) text.query = JSON.stringify(this.filter);
    if (this.fields.length) text.fields = this.fields.join(",");
    if (this.limit !== null) text.limit = this.limit;
    if (this.skip > 0) text.skip = this.skip;
    if (Object.keys(this.sort).length) text.sort = JSON.stringify(this.sort);
    return text;
  }

  toString() { return JSON.stringify(this.toQueryString()); }
}

for (const [method, operator] of Object.entries(OPERATORS)) {
  Query.prototype[method] = function (field, value) {
    const wanted = method === "exists" ? value ?? true : value;
    return this.add(field, operator, LISTS.includes(method) ? [].concat(wanted) : wanted);
  };
}

module.exports = Query;

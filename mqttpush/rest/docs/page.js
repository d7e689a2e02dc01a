// Shows /openapi.json. Every text of the document becomes a text node, never markup.
"use strict";

const METHODS = ["get", "head", "post", "put", "patch", "delete"];
let api;

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// A text whose `quoted` parts are code.
function rich(text) {
  const made = document.createDocumentFragment();
  String(text).split("`").forEach((part, index) => {
    made.append(index % 2 ? element("code", "", part) : part);
  });
  return made;
}

function resolve(value) {
  if (!value || !value.$ref) return value;
  return value.$ref.slice(2).split("/").reduce((place, key) => place[key], api);
}

function typeOf(schema) {
  if (schema.$ref) return resolve(schema).enum ? typeOf(resolve(schema)) : schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  const choices = schema.anyOf || schema.oneOf;
  if (choices) return choices.map(typeOf).join(" | ");
  if (schema.type === "array") return `list of ${typeOf(schema.items || {})}`;
  return schema.type || "anything";
}

function limits(schema) {
  const names = { pattern: "pattern", minLength: "at least", maxLength: "at most", minimum: "from",
    maximum: "to", maxItems: "at most", default: "default" };
  return Object.keys(names)
    .filter((name) => name in schema && schema[name] !== null && schema[name] !== "")
    .map((name) => `${names[name]} ${typeof schema[name] === "string" ? schema[name] : JSON.stringify(schema[name])}`)
    .join(", ");
}

// The fields of an object as a list; nested ones once, so that a cycle ends.
function fields(schema, seen = []) {
  const resolved = resolve(schema) || {};
  const inner = [resolved, ...(resolved.anyOf || [])].map((each) => resolve(each.items || each));
  const list = element("ul", "fields");
  for (const part of inner) {
    if (seen.includes(part)) continue;
    for (const [name, field] of Object.entries(part.properties || {})) {
      const optional = (part.required || []).includes(name) ? "" : " (optional)";
      const item = element("li", "", element("code", "", name), `: ${typeOf(field)}${optional}`);
      const plain = (field.anyOf || []).find((each) => each.type !== "null") || field;
      const more = [field.description, limits({ ...plain, ...field })].filter(Boolean).join("; ");
      if (more) item.append(" — ", rich(more));
      const nested = fields(field, [...seen, part]);
      if (nested.childElementCount) item.append(nested);
      list.append(item);
    }
    if (part.additionalProperties === true) list.append(element("li", "", "any other fields"));
  }
  return list;
}

function content(described) {
  const made = document.createDocumentFragment();
  const types = Object.entries((described && described.content) || {});
  if (!types.length) return made;
  made.append(element("p", "", ...types.flatMap(([type]) => [element("code", "", type), " "])));
  const { schema } = types[0][1];
  if (schema && schema.$ref) made.append(rich(resolve(schema).description || ""));
  if (schema) made.append(fields(schema));
  return made;
}

function curl(path, method, operation) {
  const lines = [`curl -X ${method.toUpperCase()} '${location.origin}${path}'`];
  if (operation.security) lines.push("  -H 'Authorization: Bearer TOKEN'");
  if (operation.requestBody) {
    lines.push(`  -H 'Content-Type: ${Object.keys(operation.requestBody.content)[0]}'`, "  -d @body");
  }
  return lines.join(" \\\n");
}

function body(path, method, operation) {
  const made = element("div", "");
  const parameters = (operation.parameters || []).map(resolve);
  if (parameters.length) {
    const rows = parameters.map((each) => element("tr", "",
      element("th", "", element("code", "", each.name)), element("td", "", each.in),
      element("td", "", rich(each.description || ""), element("br", ""), limits(each.schema || {}))));
    made.append(element("h3", "", "Parameters"), element("table", "", ...rows));
  }
  if (operation.requestBody) made.append(element("h3", "", "Body"), content(operation.requestBody));
  made.append(element("h3", "", "Example"), element("pre", "", curl(path, method, operation)));
  made.append(element("h3", "", "Answers"));
  for (const [status, reference] of Object.entries(operation.responses)) {
    const response = resolve(reference);
    const answer = element("details", "", element("summary", "",
      element("span", "method", status), element("span", "text", rich(response.description))));
    answer.append(element("div", "", content(response)));
    made.append(answer);
  }
  return made;
}

function operationOf(path, method, operation) {
  const made = element("details", "operation", element("summary", "",
    element("span", "method", method.toUpperCase()), element("span", "path", path),
    element("span", "text", operation.summary)));
  made.id = operation.operationId;
  made.dataset.text = `${method} ${path} ${operation.summary}`.toLowerCase();
  // 300 operations: each is written out when it is first opened.
  made.addEventListener("toggle", () => {
    if (made.open && made.childElementCount === 1) made.append(body(path, method, operation));
  });
  return made;
}

function search() {
  const words = document.getElementById("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const section of document.querySelectorAll("section")) {
    let shown = 0;
    for (const each of section.querySelectorAll(".operation")) {
      each.hidden = !words.every((word) => each.dataset.text.includes(word));
      shown += each.hidden ? 0 : 1;
    }
    section.hidden = shown === 0;
    count += shown;
  }
  document.getElementById("count").textContent = `${count} operations`;
}

function openLinked() {
  const linked = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (linked instanceof HTMLDetailsElement) {
    linked.open = true;
    linked.scrollIntoView();
  }
}

async function show() {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`openapi.json: status ${response.status}`);
  api = await response.json();
  document.getElementById("version").textContent = api.info.version;
  document.getElementById("description").replaceChildren(rich(api.info.description));
  const sections = new Map(api.tags.map(({ name }) => [name, element("section", "", element("h2", "", name))]));
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((each) => item[each])) {
      sections.get(item[method].tags[0]).append(operationOf(path, method, item[method]));
    }
  }
  document.getElementById("operations").replaceChildren(...sections.values());
  document.getElementById("search").addEventListener("input", search);
  window.addEventListener("hashchange", openLinked);
  search();
  openLinked();
}

show().catch((error) => {
  const description = document.getElementById("description");
  description.className = "failed";
  description.textContent = `The document cannot be shown: ${error.message}`;
});

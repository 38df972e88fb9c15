/** The folder is a project that WeChat's developer tools open as it is, and each of its files is plain ES5. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { ROOT, load } from "./program.js";
import { makePhone } from "./wx.js";

const { parse } = createRequire(new URL("../../../.venv/node/package.json", import.meta.url))("acorn");
const text = (path) => readFileSync(join(ROOT, path), "utf8");
const json = (path) => JSON.parse(text(path));
const FILES = readdirSync(ROOT, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
  .filter((path) => !path.startsWith("test/"));
const SCRIPTS = FILES.filter((path) => path.endsWith(".js"));

/** Methods of today's JavaScript that ES5 does not have, by name. Names that ES5 has on other objects are left out. */
const LATER = [
  [String.prototype, "charAt charCodeAt concat indexOf lastIndexOf localeCompare match replace search slice split substr substring toLowerCase toLocaleLowerCase toUpperCase toLocaleUpperCase toString trim valueOf length constructor link at"],
  [Array.prototype, "concat every filter forEach indexOf join lastIndexOf length map pop push reduce reduceRight reverse shift slice some sort splice toString toLocaleString unshift constructor keys at"],
  [Object, "create defineProperties defineProperty freeze getOwnPropertyDescriptor getOwnPropertyNames getPrototypeOf isExtensible isFrozen isSealed keys preventExtensions prototype seal length name"],
  [Number, "MAX_VALUE MIN_VALUE NEGATIVE_INFINITY POSITIVE_INFINITY NaN prototype length name"],
].flatMap(([object, known]) => Object.getOwnPropertyNames(object).filter((name) => !known.split(" ").includes(name)));

/** @param {any} node @param {(node: any) => void} visit */
function walk(node, visit) {
  if (!node || typeof node !== "object") return;
  if (node.type) visit(node);
  Object.values(node).forEach((child) => walk(child, visit));
}

test("each script is ES5, and calls no method that ES5 lacks", () => {
  assert.ok(SCRIPTS.length >= 6);
  for (const path of SCRIPTS) {
    walk(parse(text(path), { ecmaVersion: 5, sourceType: "script" }), (node) => {
      if (node.type === "MemberExpression" && !node.computed) assert.ok(!LATER.includes(node.property.name), `${path}: ${node.property.name}`);
    });
  }
});

test("the reader has at most 200 lines of at most 132 characters, and no byte order mark", () => {
  const lines = text("aideer.js").trimEnd().split("\n");
  assert.ok(lines.length <= 200, String(lines.length));
  for (const path of FILES) {
    assert.ok(!text(path).startsWith("\uFEFF"), path);
    if (path.endsWith(".js")) text(path).split("\n").forEach((line, n) => assert.ok(line.length <= 132, `${path}:${n + 1}`));
  }
  assert.doesNotMatch(text("aideer.js"), /\brequire\(/);
});

test("each page has its four files, and no page is left out", () => {
  const { pages, sitemapLocation } = json("app.json");
  for (const page of pages) for (const kind of ["js", "json", "wxml", "wxss"]) assert.ok(existsSync(join(ROOT, `${page}.${kind}`)), `${page}.${kind}`);
  assert.deepEqual(FILES.filter((path) => path.endsWith(".wxml")).sort(), pages.map((page) => `${page}.wxml`).sort());
  assert.ok(existsSync(join(ROOT, sitemapLocation)));
  for (const path of ["app.js", "app.wxss", "project.config.json"]) assert.ok(existsSync(join(ROOT, path)));
});

test("each file of JSON is valid, and the project begins in this folder without an app id of anybody", () => {
  FILES.filter((path) => path.endsWith(".json")).forEach(json);
  const project = json("project.config.json");
  assert.equal(project.appid, "touristappid");
  assert.equal(project.miniprogramRoot, "./");
  assert.deepEqual(project.packOptions.ignore.map(({ value }) => value).sort(), ["README.md", "test"]);
  for (const path of FILES.filter((one) => one !== "README.md")) assert.doesNotMatch(text(path), /wx[0-9a-f]{16}|secret\s*[:=]/i, path);
});

test("each require resolves within the project", () => {
  for (const path of SCRIPTS) {
    for (const [, wanted] of text(path).matchAll(/\brequire\(["']([^"']+)["']\)/g)) {
      assert.match(wanted, /^\.\.?\/.*\.js$/, path);
      assert.ok(existsSync(join(ROOT, dirname(path), wanted)), `${path}: ${wanted}`);
    }
  }
});

test("each handler that a page names is a function of the page, and each value that it shows is in its data", () => {
  for (const page of json("app.json").pages) {
    const program = load(makePhone().wx);
    program.require(`${page}.js`);
    const made = program.pages[page];
    const markup = text(`${page}.wxml`);
    for (const [, name] of markup.matchAll(/\bbind\w+="(\w+)"/g)) assert.equal(typeof made[name], "function", `${page}: ${name}`);
    for (const [, expression] of markup.matchAll(/\{\{(.*?)\}\}/g)) {
      const names = expression.replace(/'[^']*'/g, "").match(/(?<![.\w])[a-z]\w*/gi) ?? [];
      for (const name of names.filter((one) => !["item", "part", "index", "null", "false", "true"].includes(one))) {
        assert.ok(name in made.data, `${page}: ${name}`);
      }
    }
  }
});

test("each address of a page that a script opens is in app.json", () => {
  const pages = json("app.json").pages.map((page) => `/${page}`);
  for (const path of SCRIPTS) for (const [, url] of text(path).matchAll(/url: "(\/pages[^"?]*)/g)) assert.ok(pages.includes(url), url);
});

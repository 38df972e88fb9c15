/** Loads the files of the mini program as WeChat does: by `require` of relative paths, with `wx`, App() and Page(), in ES5 alone. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** What a file may not count on: old base libraries lack it, or a mini program has none of it. */
const ABSENT = ["Promise", "Symbol", "Map", "Set", "WeakMap", "Proxy", "Reflect", "TextDecoder", "TextEncoder", "URL", "URLSearchParams",
  "fetch", "Headers", "Response", "ReadableStream", "AbortController", "crypto", "localStorage", "window", "document", "globalThis", "process", "Buffer"];

/**
 * Load files for a phone. `program.require(path)` returns the exports of a file, by its path from the root.
 * @param {any} wx @param {Record<string, any>} [replaced] exports that stand in for those of a file, such as "config.js"
 */
export function load(wx, replaced = {}) {
  const modules = new Map(Object.entries(replaced).map(([path, value]) => [path, { exports: value }]));
  const program = { app: null, pages: {}, require: (path) => run(normalize(path)).exports };

  function run(path) {
    if (modules.has(path)) return modules.get(path);
    const file = join(ROOT, path);
    assert.ok(existsSync(file), `${path} is not in the mini program`);
    const module = { exports: {} };
    modules.set(path, module);
    const require = (wanted) => {
      assert.match(wanted, /^\.\.?\//, "a mini program requires files by relative paths");
      return run(normalize(join(dirname(path), wanted))).exports;
    };
    const given = {
      require, module, exports: module.exports, wx,
      App: (app) => { program.app = app; },
      getApp: () => program.app,
      Page: (page) => { program.pages[path.replace(/\.js$/, "")] = page; },
    };
    new Function(...Object.keys(given), ...ABSENT, `"use strict";\n${readFileSync(file, "utf8")}`)(...Object.values(given));
    return module;
  }
  return program;
}

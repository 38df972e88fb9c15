/** A page of the mini program in Node: data, setData and the calls of its life, as WeChat has them. */
import assert from "node:assert/strict";
import { load } from "./program.js";

/** Set a value at a path such as "messages[3].parts[0]". */
function put(data, path, value) {
  const steps = path.match(/[^.[\]]+/g);
  const last = steps.pop();
  const at = steps.reduce((inner, step) => inner[step], data);
  assert.ok(at !== undefined, `${path} leads nowhere`);
  if (Array.isArray(at)) assert.ok(Number(last) <= at.length, `${path} leaves a hole`);
  at[last] = value;
}

/** Start the mini program on a phone, against a server. */
export function start(phone, base) {
  const program = load(phone.wx, { "config.js": { base } });
  program.require("app.js");
  program.app.onLaunch();
  return program;
}

/** Open a page. `page.calls` has each setData: its paths, its size in characters, and when it came. */
export function open(program, path, options = {}) {
  program.require(`${path}.js`);
  const page = Object.create(program.pages[path]);
  page.data = JSON.parse(JSON.stringify(program.pages[path].data));
  page.calls = [];
  page.waiting = 0;
  page.mostWaiting = 0;
  page.setData = (patch, done) => {
    const copy = JSON.parse(JSON.stringify(patch)); // setData copies: undefined is lost, and functions are
    assert.deepEqual(copy, patch, "undefined cannot be set");
    page.calls.push({ paths: Object.keys(patch), size: JSON.stringify(patch).length, at: performance.now() });
    for (const [name, value] of Object.entries(copy)) put(page.data, name, value);
    page.mostWaiting = Math.max(page.mostWaiting, ++page.waiting);
    setTimeout(() => { page.waiting--; done?.(); page.onData?.(); }, 5); // the other thread has drawn
    page.onData?.();
  };
  page.onLoad(options);
  page.onShow?.();
  return page;
}

/** Wait until a page's data fit. */
export function until(page, condition, what) {
  return new Promise((resolve, reject) => {
    const clock = setTimeout(() => reject(new Error(`not within 60 s: ${what ?? condition}; ${JSON.stringify(page.data).slice(0, 600)}`)), 60_000);
    page.onData = () => {
      if (!condition(page.data)) return;
      clearTimeout(clock);
      page.onData = null;
      resolve(page.data);
    };
    page.onData();
  });
}

/** The text of a message, as the page shows it. */
export const textOf = (message) => message.parts.join("");

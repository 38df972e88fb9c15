/** A server that says what a test dictates, and notes what it was asked. */
import http from "node:http";

/** @typedef {{ method: string, path: string, headers: http.IncomingHttpHeaders, body: string, closed: Promise<void> }} Asked */

/**
 * Start a server for one test, with a handler that gets each request with its body.
 * @param {import("node:test").TestContext} test @param {(asked: Asked, response: http.ServerResponse) => void | Promise<void>} handler
 */
export async function serve(test, handler) {
  /** @type {Asked[]} */
  const asked = [];
  const server = http.createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const closed = new Promise((resolve) => response.on("close", () => resolve(undefined)));
    const one = /** @type {Asked} */ ({ method: request.method, path: request.url, headers: request.headers, body: Buffer.concat(parts).toString(), closed });
    asked.push(one);
    await handler(one, response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  test.after(() => { server.closeAllConnections(); server.close(); });
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return { base: `http://127.0.0.1:${port}`, asked };
}

/** @param {http.ServerResponse} response @param {number} status @param {unknown} body @param {Record<string, string>} [headers] */
export function json(response, status, body, headers = {}) {
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

/** A connection that is lost: what was written arrives, and then the socket is gone. @param {http.ServerResponse} response */
export function drop(response) {
  // An empty write's callback comes after the bytes before it were handed to the system.
  if (response.headersSent) response.write("", () => response.socket?.destroySoon());
  else response.socket?.destroy();
}

/** Storage that notes each change. @param {any} tokens */
export function storage(tokens) {
  const changes = /** @type {any[]} */ ([]);
  return { changes, get: () => tokens, set: (/** @type {any} */ next) => { tokens = next; changes.push(next); } };
}

/** A function for `wait` that notes what it was asked to wait, and returns at once. */
export function noting() {
  const waits = /** @type {number[]} */ ([]);
  return { waits, wait: async (/** @type {number} */ ms, /** @type {AbortSignal} */ signal) => { signal.throwIfAborted(); waits.push(ms); } };
}

const PIECES = ["你好", "，", "世界", "🦌🌲", "e\u0301", " 𠮷野家 ", "👩‍👩‍👧", "\n- done", "。"];
export const TEXT = PIECES.join("");

/** The stream of an answer from a position on, as functions/aideer/tasks/sse.py writes it. @param {number} after @param {any} [more] */
export function stream(after, more = {}) {
  let [position, said] = [0, ""];
  said += `event: start\nid: ${after}\ndata: ${JSON.stringify({ task_id: "t1", chat_id: "c1", position: after, ...more })}\n\n: keep-alive\n\n`;
  for (const piece of PIECES) {
    const points = [...piece];
    const rest = points.slice(Math.max(after - position, 0)).join("");
    position += points.length;
    if (rest && position > after) said += `id: ${position}\ndata: ${JSON.stringify({ status: "running", content: rest })}\n\n`;
  }
  const end = { status: "finished", content: TEXT, credits: 1, sources: [{ title: "s", url: "https://example.com" }] };
  return `${said}id: end\ndata: ${JSON.stringify(end)}\n\nevent: close\ndata: {}\n\n`;
}

/** The positions at which the stream has the end of an event. */
export const POSITIONS = new Set([0, ...PIECES.map((_, n) => [...PIECES.slice(0, n + 1).join("")].length)]);

/** An answer is read once and whole, whatever happens to its line. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { POSITIONS, TEXT, drop, json, noting, serve, storage, stream } from "./server.js";
import { Aideer, ApiError, refreshOf } from "./subject.js";

const TOKENS = { access_token: "a1", refresh_token: "r1" };
const QUESTION = { chat_id: "c1", messages: [{ role: "user", content: "你好" }] };
const SSE = { "Content-Type": "text/event-stream" };

/** @param {import("../aideer.js").Answer} answer */
async function read(answer) {
  const events = [];
  for await (const event of answer) events.push(event);
  return events;
}

/** @param {any[]} events */
const textOf = (events) => events.filter((event) => event.type === "text").map((event) => event.text).join("");

/** The position that a request goes on from. @param {import("./server.js").Asked} asked */
const afterOf = (asked) => Number(new URL(asked.path, "http://x").searchParams.get("after"));

test("an answer is asked for by one request", async (t) => {
  const { base, asked } = await serve(t, (_, response) => void response.writeHead(200, SSE).end(stream(0, { messages: [1] })));
  const answer = new Aideer({ base, storage: storage(TOKENS) }).ask(QUESTION, { key: "k1" });
  const events = await read(answer);
  assert.deepEqual(events.map((event) => event.type), ["open", ...Array(9).fill("text"), "sources", "end"]);
  assert.equal(textOf(events), TEXT);
  assert.deepEqual(events[0].data.messages, [1]);
  assert.equal(answer.taskId, "t1");
  const [one] = asked;
  assert.equal(asked.length, 1);
  assert.equal(`${one.method} ${one.path}`, "POST /api/v1/tasks/stream");
  assert.deepEqual(JSON.parse(one.body), QUESTION);
  assert.equal(one.headers["idempotency-key"], "k1");
  assert.equal(one.headers.authorization, "Bearer a1");
});

test("a line that is lost at any byte goes on at the exact character, and the question has one key", async (t) => {
  let at = 0;
  const { base, asked } = await serve(t, (request, response) => {
    if (request.method === "POST" && asked.length === 1) {
      const whole = Buffer.from(stream(0));
      if (at > 0) response.writeHead(200, SSE).write(whole.subarray(0, at));
      return drop(response);
    }
    const after = request.method === "POST" ? 0 : afterOf(request);
    assert.ok(POSITIONS.has(after), `${after} is the end of an event`);
    response.writeHead(200, SSE).end(stream(after));
  });
  const length = Buffer.byteLength(stream(0));
  for (; at < length; at++) {
    asked.length = 0;
    const { wait, waits } = noting();
    const events = await read(new Aideer({ base, storage: storage(TOKENS), wait }).ask(QUESTION));
    assert.equal(textOf(events), TEXT, `lost at byte ${at}`);
    assert.equal(events.filter((event) => event.type === "open").length, 1);
    assert.equal(events.at(-1)?.type, "end");
    const keys = new Set(asked.filter((one) => one.method === "POST").map((one) => one.headers["idempotency-key"]));
    assert.equal(keys.size, 1);
    assert.ok(asked.length <= 2 && waits.length === asked.length - 1);
    assert.ok(asked.every((one) => !/a1|ticket|token/.test(one.path)), "no token in an address");
  }
});

test("a line may be lost after each event", async (t) => {
  const { base, asked } = await serve(t, (request, response) => {
    const events = stream(request.method === "POST" ? 0 : afterOf(request)).split(/(?<=\n\n)/);
    const [start, comment, first] = events;
    response.writeHead(200, SSE);
    if (events.length <= 4) return void response.end(events.join(""));
    response.write(start + comment + first);
    drop(response);
  });
  const { wait, waits } = noting();
  const events = await read(new Aideer({ base, storage: storage(TOKENS), wait, attempts: 1 }).ask(QUESTION));
  assert.equal(textOf(events), TEXT);
  assert.equal(asked.length, 10);
  assert.ok(waits.every((pause) => pause <= 500), "text begins the count anew");
  const kinds = events.map((event) => event.type);
  assert.deepEqual(kinds.slice(0, 5), ["open", "text", "lost", "resumed", "text"]);
});

test("follow begins at a position, and never sends a question", async (t) => {
  const { base, asked } = await serve(t, (request, response) => void response.writeHead(200, SSE).end(stream(afterOf(request))));
  const events = await read(new Aideer({ base, storage: storage(TOKENS) }).follow("t/1", { after: 3 }));
  assert.equal(textOf(events), [...TEXT].slice(3).join(""));
  assert.deepEqual(asked.map((one) => `${one.method} ${one.path}`), ["GET /api/v1/tasks/t%2F1/stream?after=3"]);
});

test("streams go to stream_base, and other calls to the API", async (t) => {
  const streams = await serve(t, (_, response) => void response.writeHead(200, SSE).end(stream(0)));
  const rest = await serve(t, (_, response) => json(response, 200, { status: "stopped" }));
  const api = new Aideer({ base: rest.base, storage: storage({ ...TOKENS, stream_base: streams.base }) });
  await read(api.ask(QUESTION));
  await read(api.follow("t1"));
  await api.stop("t1");
  assert.deepEqual(streams.asked.map((one) => one.method), ["POST", "GET"]);
  assert.deepEqual(rest.asked.map((one) => one.path), ["/api/v1/tasks/t1/stop"]);
});

test("where nothing streams, the question is queued with its key, and the answer comes in parts", async (t) => {
  const { base, asked } = await serve(t, (request, response) => {
    if (request.method === "POST") {
      if (asked.length === 1) return drop(response);
      return json(response, 200, { task_id: "t1" });
    }
    const [start, , first, ...rest] = stream(afterOf(request)).split(/(?<=\n\n)/);
    response.writeHead(200, SSE).end(`retry: 50\n\n${start}${first}${rest.length > 3 ? "" : rest.join("")}`);
  });
  const { wait, waits } = noting();
  const events = await read(new Aideer({ base, storage: storage({ ...TOKENS, stream_base: null }), wait }).ask(QUESTION, { key: "k9" }));
  assert.equal(textOf(events), TEXT);
  assert.equal(events.filter((event) => event.type === "lost").length, 1);
  const posts = asked.filter((one) => one.method === "POST");
  assert.deepEqual(posts.map((one) => [one.path, one.headers["idempotency-key"]]), [["/api/v1/tasks", "k9"], ["/api/v1/tasks", "k9"]]);
  assert.ok(waits.slice(1).every((pause) => pause === 50));
});

test("a busy server is asked again with the same key, after Retry-After", async (t) => {
  const { base, asked } = await serve(t, (_, response) => {
    if (asked.length < 3) return json(response, 503, { detail: "Busy.", code: "busy" }, { "Retry-After": "7" });
    response.writeHead(200, SSE).end(stream(0));
  });
  const { wait, waits } = noting();
  const events = await read(new Aideer({ base, storage: storage(TOKENS), wait }).ask(QUESTION));
  assert.equal(textOf(events), TEXT);
  assert.deepEqual(waits, [7000, 7000]);
  assert.equal(new Set(asked.map((one) => one.headers["idempotency-key"])).size, 1);
});

test("a refused question is not repeated: the caller gets the code and Retry-After", async (t) => {
  for (const [status, code] of /** @type {[number, string][]} */ ([[429, "too_many_answers"], [402, "insufficient_credits"], [409, "task_running"]])) {
    const { base, asked } = await serve(t, (_, response) => json(response, status, { detail: "No.", code, credits_left: 3 }, { "Retry-After": "42" }));
    await assert.rejects(read(new Aideer({ base, storage: storage(TOKENS) }).ask(QUESTION)), (/** @type {any} */ error) => {
      assert.ok(error instanceof ApiError);
      assert.deepEqual([error.status, error.code, error.message, error.retryAfter, error.data.credits_left], [status, code, "No.", 42, 3]);
      return true;
    });
    assert.equal(asked.length, 1);
  }
});

test("a refused resumption waits as long as the server says, and goes on", async (t) => {
  const { base, asked } = await serve(t, (request, response) => {
    if (asked.length === 1) {
      response.writeHead(200, SSE).write(stream(0).split(/(?<=\n\n)/).slice(0, 4).join(""));
      return drop(response);
    }
    if (asked.length === 2) return json(response, 429, { detail: "Wait.", code: "too_many_resumptions" }, { "Retry-After": "30" });
    response.writeHead(200, SSE).end(stream(afterOf(request)));
  });
  const { wait, waits } = noting();
  assert.equal(textOf(await read(new Aideer({ base, storage: storage(TOKENS), wait }).ask(QUESTION))), TEXT);
  assert.equal(waits[1], 30_000);
});

test("a token that expires in the middle is refreshed, and the answer goes on", async (t) => {
  const { base, asked } = await serve(t, (request, response) => {
    if (refreshOf(request)) return json(response, 200, { access_token: "a2", refresh_token: "r2" });
    if (asked.length === 1) {
      response.writeHead(200, SSE).write(stream(0).split(/(?<=\n\n)/).slice(0, 4).join(""));
      return drop(response);
    }
    if (request.headers.authorization !== "Bearer a2") return json(response, 401, { detail: "Expired.", code: "token_expired" });
    response.writeHead(200, SSE).end(stream(afterOf(request)));
  });
  const events = await read(new Aideer({ base, storage: storage(TOKENS), wait: noting().wait }).ask(QUESTION));
  assert.equal(textOf(events), TEXT);
  assert.deepEqual(asked.map((one) => refreshOf(one) ?? one.path.split("?")[0].split("/").at(-1)), ["stream", "stream", "r1", "stream"]);
});

test("a task that is gone ends the reading", async (t) => {
  const { base } = await serve(t, (_, response) => json(response, 404, { detail: "There is no such task.", code: "task_not_found" }));
  await assert.rejects(read(new Aideer({ base, storage: storage(TOKENS) }).follow("t1")), { code: "task_not_found", status: 404 });
});

test("a repeated question whose task was deleted ends without an answer", async (t) => {
  const parts = stream(0).split(/(?<=\n\n)/);
  const { base } = await serve(t, (_, response) => void response.writeHead(200, SSE).end(parts[0] + parts.at(-1)));
  assert.deepEqual((await read(new Aideer({ base, storage: storage(TOKENS) }).ask(QUESTION))).map((event) => event.type), ["open"]);
});

test("attempts are counted: a server that is gone is given up", async (t) => {
  const { base, asked } = await serve(t, (_, response) => drop(response));
  const { wait, waits } = noting();
  const answer = new Aideer({ base, storage: storage(TOKENS), wait, attempts: 6 }).ask(QUESTION);
  await assert.rejects(read(answer), { code: "network", status: 0 });
  assert.equal(waits.length, 6);
  assert.ok(asked.length >= 7);
  for (const [n, pause] of waits.entries()) {
    const most = Math.min(500 * 2 ** n, 15_000);
    assert.ok(pause >= most / 2 && pause <= most, `${pause} at ${n}`);
  }
});

test("abort ends the line, and the iteration throws an AbortError", async (t) => {
  const { base, asked } = await serve(t, (_, response) => void response.writeHead(200, SSE).write(stream(0).split("id: end")[0]));
  const controller = new AbortController();
  const seen = /** @type {any[]} */ ([]);
  const reading = (async () => {
    for await (const event of new Aideer({ base, storage: storage(TOKENS) }).ask(QUESTION, { signal: controller.signal })) {
      seen.push(event);
      if (seen.length === 4) controller.abort();
    }
  })();
  await assert.rejects(reading, { name: "AbortError" });
  await asked[0].closed;
  assert.equal(asked.length, 1);
});

test("an aborted signal sends nothing", async (t) => {
  const { base, asked } = await serve(t, (_, response) => void response.end());
  await assert.rejects(read(new Aideer({ base, storage: storage(TOKENS) }).ask(QUESTION, { signal: AbortSignal.abort() })), { name: "AbortError" });
  assert.equal(asked.length, 0);
});

test("abort ends a wait for the next attempt", async (t) => {
  const { base } = await serve(t, (_, response) => drop(response));
  const controller = new AbortController();
  const api = new Aideer({ base, storage: storage(TOKENS) });
  const reading = (async () => {
    for await (const event of api.ask(QUESTION, { signal: controller.signal })) if (event.type === "lost") controller.abort();
  })();
  await assert.rejects(reading, { name: "AbortError" });
});

test("leaving the iteration ends the line", async (t) => {
  const { base, asked } = await serve(t, (_, response) => void response.writeHead(200, SSE).write(stream(0).split("id: end")[0]));
  for await (const event of new Aideer({ base, storage: storage(TOKENS) }).ask(QUESTION)) if (event.type === "text") break;
  await asked[0].closed;
});

test("a silent line counts as lost", async (t) => {
  const { base, asked } = await serve(t, (request, response) => {
    if (asked.length === 1) return void response.writeHead(200, SSE).write(stream(0).split(/(?<=\n\n)/).slice(0, 4).join(""));
    response.writeHead(200, SSE).end(stream(afterOf(request)));
  });
  const events = await read(new Aideer({ base, storage: storage(TOKENS), wait: noting().wait, silence: 5000 }).ask(QUESTION));
  assert.equal(textOf(events), TEXT);
  await asked[0].closed;
  assert.equal(asked.length, 2);
});

test("stop before the task is known stops it as soon as it is", async (t) => {
  const end = { status: "stopped", content: "", credits: 0, sources: [] };
  let release = /** @type {() => void} */ (() => {});
  const stopped = new Promise((resolve) => { release = () => resolve(undefined); });
  const { base, asked } = await serve(t, async (request, response) => {
    if (request.path.endsWith("/stop")) { release(); return json(response, 202, { status: "running" }); }
    response.writeHead(200, SSE).write(stream(0).split(/(?<=\n\n)/)[0]);
    await stopped;
    response.end(`id: end\ndata: ${JSON.stringify(end)}\n\nevent: close\ndata: {}\n\n`);
  });
  const answer = new Aideer({ base, storage: storage(TOKENS) }).ask(QUESTION);
  await answer.stop();
  const events = await read(answer);
  assert.equal(events.at(-1)?.data.status, "stopped");
  assert.deepEqual(asked.map((one) => one.path), ["/api/v1/tasks/stream", "/api/v1/tasks/t1/stop"]);
});

test("reasoning and text are told apart, and positions count code points", async (t) => {
  const body = 'event: start\nid: 0\ndata: {"task_id":"t1","position":0}\n\nid: 2\ndata: {"status":"running","reasoning":"🦌想"}\n\n'
    + 'id: 3\ndata: {"status":"running","content":"𠮷"}\n\nid: end\ndata: {"status":"finished","content":"𠮷","reasoning":"🦌想"}\n\nevent: close\ndata: {}\n\n';
  const { base } = await serve(t, (_, response) => void response.writeHead(200, SSE).end(body));
  const events = await read(new Aideer({ base, storage: storage(TOKENS) }).ask(QUESTION));
  assert.deepEqual(events.map((event) => [event.type, event.text, event.position]), [["open", "", 0], ["reasoning", "🦌想", 2], ["text", "𠮷", 3], ["end", "𠮷", 3]]);
});

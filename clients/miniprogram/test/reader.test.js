/** What a mini program adds to the rules of clients/js: phones without chunks, the background, wx.login, and refusals in chunks. */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import { TEXT, drop, json, serve, stream } from "../../js/test/server.js";
import { load } from "./program.js";
import { makePhone, memory } from "./wx.js";

const TOKENS = { access_token: "a1", refresh_token: "r1" };
const NEXT = { access_token: "a2", refresh_token: "r2" };
const QUESTION = { chat_id: "c1", messages: [{ role: "user", content: "你好" }] };
const SSE = { "Content-Type": "text/event-stream" };
const HALF = stream(0).split(/(?<=\n\n)/).slice(0, 5).join("");
const afterOf = (asked) => Number(new URL(asked.path, "http://x").searchParams.get("after"));
const textOf = (events) => events.filter((event) => event.type === "text").map((event) => event.text).join("");
const types = (events) => events.map((event) => event.type);
const lines = (asked) => asked.map((one) => `${one.method} ${one.path.split("?")[0].replace("/api/v1", "")}`);

/** A server, a phone with tokens, and a reader that does not wait. `waits` has the waits that it wanted. */
async function setUp(t, handler, { tokens = TOKENS, ...given } = {}, options = {}) {
  const { base, asked } = await serve(t, handler);
  const phone = makePhone({ storage: memory(tokens ? { "aideer.tokens": tokens } : {}), ...given });
  const waits = [];
  const later = (run, milliseconds) => { waits.push(milliseconds); setImmediate(run); };
  const reader = load(phone.wx).require("aideer.js").create({ base, later, ...options });
  return { base, asked, phone, reader, waits };
}

/** Ask, and collect the events up to the last one. `also(event, answer)` sees each. */
function read(reader, also = () => {}, open = (tell) => reader.ask(QUESTION, {}, tell)) {
  return new Promise((resolve) => {
    const events = [];
    const answer = open((event) => {
      events.push(event);
      also(event, answer);
      if (["end", "gone", "error"].includes(event.type)) resolve(events);
    });
  });
}
const call = (reader, method, path) => new Promise((resolve) => reader.request(method, path, {}, (error, reply) => resolve(error ?? reply)));
const signIn = (reader) => new Promise((resolve) => reader.signIn((error, reply) => resolve(error ?? reply)));
const answering = (request, response) => void response.writeHead(200, SSE).end(stream(request.method === "POST" ? 0 : afterOf(request)));

test("chunks may end at every byte", async (t) => {
  let at = 0;
  const { reader, asked } = await setUp(t, answering, { cut: (bytes) => [bytes.subarray(0, at), bytes.subarray(at)] });
  for (const length = Buffer.byteLength(stream(0)); at <= length; at++) {
    const events = await read(reader);
    assert.equal(textOf(events), TEXT, `cut at ${at}`);
    assert.equal(events.at(-1).text, TEXT);
  }
  assert.equal(asked.length, at, "no answer took a second request");
});

test("chunks may be single bytes", async (t) => {
  const { reader } = await setUp(t, answering, { cut: (bytes) => Array.from(bytes, (byte) => [byte]) });
  assert.equal(textOf(await read(reader)), TEXT);
});

test("any text of Unicode is decoded as TextDecoder does, and bytes that are no UTF-8 break nothing", () => {
  const { parser } = load(makePhone().wx).require("aideer.js");
  const decode = (bytes) => {
    let text = null;
    parser((event) => { text = event.data; })([...Buffer.from("data:"), ...bytes, 10, 10]);
    return text;
  };
  let seed = 1;
  const random = (below) => (seed = (seed * 48_271) % 2_147_483_647) % below;
  for (let round = 0; round < 300; round++) {
    const points = Array.from({ length: 40 }, () => random([0x80, 0x800, 0x10000, 0x110000][random(4)])).filter((one) => one > 32 && (one < 0xd800 || one > 0xdfff));
    const text = String.fromCodePoint(...points);
    assert.equal(decode(new TextEncoder().encode(text)), text);
  }
  assert.equal(decode([37, 50, 48]), "%20");
  assert.equal(decode([0xff, 0xfe]), null, "the line is no field");
});

test("it asks with chunks, as bytes, for longer than a minute, and with no token in an address", async (t) => {
  const { reader, phone, asked } = await setUp(t, answering, {}, { language: "zh-CN" });
  await read(reader);
  const [sent] = phone.sent;
  assert.equal(sent.chunked, true);
  assert.ok(sent.timeout > 300_000);
  assert.equal(asked[0].headers["accept-language"], "zh-CN");
  assert.equal(asked[0].headers.authorization, "Bearer a1");
  assert.match(String(asked[0].headers["idempotency-key"]), /^[\w.-]{10,128}$/);
  assert.ok(phone.sent.every(({ url }) => !/a1|r1/.test(url)));
});

test("two questions have two keys", async (t) => {
  const { reader, asked } = await setUp(t, answering);
  await read(reader);
  await read(reader);
  assert.equal(new Set(asked.map((one) => one.headers["idempotency-key"])).size, 2);
});

test("an answer goes on after the background, and no attempt is used up in it", async (t) => {
  const { reader, phone, asked } = await setUp(t, (request, response) => {
    if (asked.length > 1) return answering(request, response);
    response.writeHead(200, SSE).write(HALF);
  }, { background: 20 }, { attempts: 1 });
  let failed = 0;
  const events = await read(reader, (event) => {
    if (event.type === "text" && phone.sent.length === 1 && event.position > 2) phone.hide();
    if (event.type === "lost" && ++failed === 4) phone.show(); // each attempt in the background fails
  });
  assert.equal(textOf(events), TEXT);
  assert.equal(failed, 4);
  assert.ok(phone.failed.every((why) => why === "request:fail interrupted"));
  assert.deepEqual(lines(asked), ["POST /tasks/stream", "GET /tasks/t1/stream"]);
});

test("a lost answer goes on at once when the program is shown", async (t) => {
  const { reader, phone, asked, waits } = await setUp(t, (request, response) => {
    if (asked.length > 1) return answering(request, response);
    response.writeHead(200, SSE).write(HALF);
    drop(response);
  }, {}, { later: (run, milliseconds) => void (milliseconds > 0 ? waits.push(milliseconds) : setImmediate(run)) });
  const events = await read(reader, (event) => event.type === "lost" && phone.show());
  assert.equal(textOf(events), TEXT);
});

test("a line that was frozen in the background is opened again", async (t) => {
  const { reader, phone, asked } = await setUp(t, (request, response) => {
    if (asked.length > 1) return answering(request, response);
    response.writeHead(200, SSE).write(HALF);
  }, { background: 3_600_000 });
  const now = Date.now();
  const events = await read(reader, (event) => {
    if (event.position !== 5 || phone.hidden) return;
    phone.hide();
    t.mock.method(Date, "now", () => now + 60_000);
    phone.show();
  });
  assert.equal(textOf(events), TEXT);
  assert.equal(asked.length, 2);
});

test("a line that is heard stays open when the program is shown", async (t) => {
  const { reader, phone, asked } = await setUp(t, answering);
  const events = await read(reader, (event) => event.type === "open" && phone.show());
  assert.equal(textOf(events), TEXT);
  assert.equal(asked.length, 1);
});

test("Retry-After counts also when the program is shown", async (t) => {
  const { reader, phone, asked, waits } = await setUp(t, (request, response) => {
    if (asked.length === 1) return response.writeHead(200, SSE).write(HALF), drop(response);
    if (asked.length === 2) return json(response, 429, { detail: "Wait.", code: "too_many_resumptions" }, { "Retry-After": "30" });
    answering(request, response);
  });
  const events = await read(reader, (event) => event.type === "lost" && event.data.error.status === 429 && phone.show());
  assert.equal(textOf(events), TEXT);
  assert.ok(waits.slice(1).every((pause) => pause > 29_000), String(waits));
});

test("before base library 2.20.2 the question is queued, and its answer is polled", async (t) => {
  for (const version of ["2.20.1", "2.9.5", "1.9.9"]) {
    const { reader, phone, asked, waits } = await setUp(t, polling(() => asked), { version });
    assert.equal(textOf(await read(reader)), TEXT);
    assert.ok(phone.sent.every((sent) => !sent.chunked));
    assert.deepEqual([...new Set(lines(asked))], ["POST /tasks", "GET /tasks/t1/poll"]);
    assert.ok(waits.every((pause) => pause === 500));
  }
  for (const version of ["2.20.2", "2.21.0", "3.0.0"]) {
    const { reader, asked } = await setUp(t, answering, { version });
    assert.equal(textOf(await read(reader)), TEXT);
    assert.deepEqual(lines(asked), ["POST /tasks/stream"]);
  }
});

/** A server that streams nothing: each poll has one event. */
function polling(asked, first = (request, response) => json(response, 200, { task_id: "t1" })) {
  return (request, response) => {
    if (request.method === "POST") return first(request, response, asked());
    const [start, , one, ...rest] = stream(afterOf(request)).split(/(?<=\n\n)/);
    response.writeHead(200, SSE).end(`retry: 500\n\n${start}${one}${rest.length > 3 ? "" : rest.join("")}`);
  };
}

test("a phone that keeps the chunks to the end shows this answer, and polls the next one", async (t) => {
  const { reader, asked } = await setUp(t, polling(() => asked, (request, response) => {
    if (request.path.endsWith("/stream")) return answering(request, response);
    json(response, 200, { task_id: "t1" });
  }), { chunks: false });
  assert.equal(textOf(await read(reader)), TEXT);
  assert.deepEqual(lines(asked), ["POST /tasks/stream"]);
  assert.equal(textOf(await read(reader)), TEXT);
  assert.equal(lines(asked)[1], "POST /tasks");
});

test("if no chunk comes at all, the question is queued with the same key", async (t) => {
  const { reader, asked } = await setUp(t, polling(() => asked, (request, response) => {
    if (request.path.endsWith("/stream")) return void response.writeHead(200, SSE).write(HALF); // the phone gives none of it
    json(response, 200, { task_id: "t1" });
  }), { chunks: false }, { patience: 50 });
  assert.equal(textOf(await read(reader)), TEXT);
  assert.deepEqual(lines(asked).slice(0, 3), ["POST /tasks/stream", "POST /tasks", "GET /tasks/t1/poll"]);
  assert.equal(asked[0].headers["idempotency-key"], asked[1].headers["idempotency-key"]);
  assert.equal(asked[0].body, asked[1].body);
});

test("a timer that fires late, because the phone slept, is no reason to poll", async (t) => {
  const now = Date.now();
  let passed = 0;
  const { reader, asked } = await setUp(t, (request, response) => {
    if (asked.length > 1) return answering(request, response);
    passed = 60_000;
  }, {}, { patience: 50 });
  t.mock.method(Date, "now", () => now + passed);
  assert.equal(textOf(await read(reader)), TEXT);
  assert.deepEqual(lines(asked), ["POST /tasks/stream", "POST /tasks/stream"]);
});

test("an answer of the queue that is no JSON counts as lost", async (t) => {
  const { reader, asked } = await setUp(t, polling(() => asked, (request, response) => {
    if (asked.length > 1) return json(response, 200, { task_id: "t1" });
    response.writeHead(200, { "Content-Type": "application/json" }).end('{"task');
  }), { version: "2.10.0" });
  assert.equal(textOf(await read(reader)), TEXT);
  assert.equal(asked[0].headers["idempotency-key"], asked[1].headers["idempotency-key"]);
});

test("a deployment without streams gets the question in its queue", async (t) => {
  const { reader, asked } = await setUp(t, polling(() => asked, (request, response) => {
    if (request.path.endsWith("/stream")) return json(response, 404, { message: "Not Found" });
    json(response, 200, { task_id: "t1" });
  }));
  assert.equal(textOf(await read(reader)), TEXT);
  assert.equal(asked[0].headers["idempotency-key"], asked[1].headers["idempotency-key"]);
});

test("success may overtake the last chunk: nothing is lost, and nothing comes twice", async (t) => {
  const { reader, asked } = await setUp(t, async (request, response) => {
    const whole = stream(request.method === "POST" ? 0 : afterOf(request));
    if (asked.length > 1) return void response.writeHead(200, SSE).end(whole);
    response.writeHead(200, SSE).write(HALF);
    await new Promise((resolve) => setImmediate(resolve));
    response.end(whole.slice(HALF.length));
  }, { late: true });
  const events = await read(reader);
  assert.equal(asked.length, 1);
  assert.equal(textOf(events), TEXT);
  assert.equal(events.filter((event) => event.type === "end").length, 1);
});

test("a refusal that comes in chunks has its code, its text and Retry-After", async (t) => {
  for (const chunks of [true, false]) {
    for (const [status, code] of [[402, "insufficient_credits"], [429, "too_many_answers"], [409, "task_running"]]) {
      const { reader, asked, phone } = await setUp(t, (_, response) => {
        json(response, status, { detail: "积分不足 🦌。", code, credits_left: 3 }, { "retry-after": "42" });
      }, { chunks, cut: (bytes) => [bytes.subarray(0, 20), bytes.subarray(20)] });
      const [event] = await read(reader);
      assert.equal(event.type, "error");
      const { data: error } = event;
      assert.deepEqual([error.status, error.code, error.detail, error.retryAfter, error.data.credits_left], [status, code, "积分不足 🦌。", 42, 3]);
      assert.equal(asked.length, 1);
      assert.equal(phone.running(), 0);
    }
  }
});

test("410 ends the reading: the chat has the answer", async (t) => {
  const { reader } = await setUp(t, (_, response) => json(response, 410, { detail: "Received to its end.", code: "stream_ended" }));
  assert.deepEqual(types(await read(reader, () => {}, (tell) => reader.follow("t1", { after: 7 }, tell))), ["gone"]);
});

test("an address that WeChat refuses is not tried again", async (t) => {
  const { reader, asked } = await setUp(t, answering, { domains: ["https://chat.example.com"] });
  const [event] = await read(reader);
  assert.deepEqual([event.type, event.data.code, event.data.status], ["error", "address", 0]);
  assert.match(event.data.detail, /domain list/);
  assert.equal(asked.length, 0);
});

test("an event that is no JSON counts as a lost line", async (t) => {
  const { reader, asked } = await setUp(t, (request, response) => {
    if (asked.length > 1) return answering(request, response);
    response.writeHead(200, SSE).write(`${HALF}id: 99\ndata: {"content":\n\n`);
  });
  assert.equal(textOf(await read(reader)), TEXT);
  assert.equal(afterOf(asked[1]), 5);
});

test("after abort nothing is told, and the line is closed", async (t) => {
  const { reader, asked } = await setUp(t, (_, response) => void response.writeHead(200, SSE).write(HALF));
  const events = [];
  await new Promise((resolve) => {
    const answer = reader.ask(QUESTION, {}, (event) => {
      events.push(event);
      if (event.position === 2) { answer.abort(); resolve(); }
    });
  });
  await asked[0].closed;
  assert.deepEqual(types(events), ["open", "text"]);
});

test("abort ends a wait: the line is not opened again", async (t) => {
  const { reader, phone, asked } = await setUp(t, (_, response) => drop(response));
  await new Promise((resolve) => {
    const answer = reader.ask(QUESTION, {}, (event) => {
      assert.equal(event.type, "lost");
      answer.abort();
      setTimeout(resolve, 50); // long after the wait, which is none here
    });
  });
  phone.show();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(asked.length, 1);
});

test("a page that is hidden and shown between answers sends nothing", async (t) => {
  const { reader, phone, asked } = await setUp(t, answering);
  await read(reader);
  phone.hide();
  phone.show();
  assert.equal(phone.sent.length, asked.length);
});

test("stop before the queue has answered stops the task as soon as it is known", async (t) => {
  let stopped = false;
  const end = { status: "stopped", content: "", credits: 0, sources: [] };
  const { reader, asked } = await setUp(t, (request, response) => {
    if (request.path.endsWith("/stop")) stopped = true;
    if (request.method === "POST") return json(response, 200, { task_id: "t1" });
    response.writeHead(200, SSE).end(`retry: 500\n\n${stopped ? `id: end\ndata: ${JSON.stringify(end)}\n\nevent: close\ndata: {}\n\n` : ""}`);
  }, { version: "2.10.0" });
  const events = await new Promise((resolve) => {
    const told = [];
    reader.ask(QUESTION, {}, (event) => { told.push(event); if (event.type === "end") resolve(told); }).stop();
  });
  assert.equal(events.at(-1).data.status, "stopped");
  assert.ok(lines(asked).includes("POST /tasks/t1/stop"));
});

test("sign-in sends the code of wx.login, and keeps the tokens", async (t) => {
  let codes = 0;
  const { reader, asked } = await setUp(t, (_, response) => json(response, 200, NEXT), { tokens: null, code: async () => `code ${++codes}/+` });
  assert.equal(reader.tokens(), null);
  const replies = await Promise.all([signIn(reader), signIn(reader)]);
  assert.deepEqual(replies.map((reply) => reply.data), [NEXT, NEXT]);
  assert.deepEqual(asked.map((one) => one.path), ["/api/v1/session/wechat/token?code=code%201%2F%2B"]);
  assert.deepEqual(reader.tokens(), NEXT);
});

test("a refused sign-in, and a wx.login that fails, have a code", async (t) => {
  const { reader } = await setUp(t, (_, response) => json(response, 401, { detail: "Old code.", code: "wechat_code_invalid" }), { tokens: null });
  assert.equal((await signIn(reader)).code, "wechat_code_invalid");
  const other = await setUp(t, answering, { tokens: null, code: async () => { throw new Error("no network"); } });
  assert.deepEqual(await signIn(other.reader).then(({ status, code, detail }) => [status, code, detail]), [0, "wx_login", "login:fail no network"]);
});

/** An API that takes the access token a2 alone. */
const strict = (refresh, signedIn = (response) => json(response, 200, NEXT)) => (asked, response) => {
  if (asked.path.endsWith("/refresh")) return refresh(response);
  if (asked.path.includes("/token?")) return signedIn(response);
  json(response, asked.headers.authorization === "Bearer a2" ? 200 : 401, { code: "token_expired", detail: "Expired." });
};

test("a session that WeChat has ended begins anew, without a question to the user", async (t) => {
  for (const code of ["wechat_session_over", "token_expired"]) {
    const { reader, asked } = await setUp(t, strict((response) => json(response, 401, { code, detail: "Over." })), {}, { onSignedOut: assert.fail });
    const replies = await Promise.all([1, 2, 3].map(() => call(reader, "GET", "/api/v1/users/me")));
    assert.ok(replies.every((reply) => reply.status === 200));
    assert.equal(asked.filter((one) => one.path.includes("/token?")).length, 1);
    assert.deepEqual(reader.tokens(), NEXT);
  }
});

test("if that sign-in does not arrive, the old tokens stay for the next attempt", async (t) => {
  const { reader } = await setUp(t, strict((response) => json(response, 401, { code: "wechat_session_over", detail: "Over." }), drop));
  assert.equal((await call(reader, "GET", "/api/v1/users/me")).code, "network");
  assert.deepEqual(reader.tokens(), TOKENS);
});

test("a refresh whose answer was lost is repeated within its minute, and never after it", async (t) => {
  let lost = 0;
  const { reader, asked } = await setUp(t, strict((response) => (++lost > 2 ? json(response, 200, NEXT) : drop(response))));
  const refreshes = () => asked.filter((one) => one.path.endsWith("/refresh")).length;
  const now = Date.now();
  let passed = 0;
  t.mock.method(Date, "now", () => now + passed);
  assert.equal((await call(reader, "GET", "/api/v1/users/me")).code, "network");
  passed = 30_000;
  assert.equal((await call(reader, "GET", "/api/v1/users/me")).code, "network");
  assert.equal(refreshes(), 2);
  passed = 70_000;
  assert.equal((await call(reader, "GET", "/api/v1/users/me")).status, 200);
  assert.equal(refreshes(), 2, "the used token was not sent again");
  assert.ok(asked.some((one) => one.path.includes("/token?code=")));
});

test("an answered refresh is not taken for a lost one by the next", async (t) => {
  const now = Date.now();
  let passed = 0;
  let last = 1;
  t.mock.method(Date, "now", () => now + passed);
  const { reader, asked } = await setUp(t, (request, response) => {
    if (request.path.endsWith("/refresh")) return json(response, 200, { access_token: `a${++last}`, refresh_token: `r${last}` });
    json(response, request.headers.authorization === "Bearer a1" || passed && request.headers.authorization === "Bearer a2" ? 401 : 200, {});
  });
  assert.equal((await call(reader, "GET", "/api/v1/users/me")).status, 200);
  passed = 70_000;
  assert.equal((await call(reader, "GET", "/api/v1/users/me")).status, 200);
  const refreshes = asked.filter((one) => one.path.endsWith("/refresh")).map((one) => one.headers.authorization);
  assert.deepEqual(refreshes, ["Bearer r1", "Bearer r2"]);
  assert.ok(asked.every((one) => !one.path.includes("/token?")));
});

test("a call that was aborted during a refresh is not sent again", async (t) => {
  let refreshed = null;
  const { reader, asked } = await setUp(t, strict((response) => { refreshed = () => json(response, 200, NEXT); }));
  const task = reader.request("GET", "/api/v1/users/me", {}, assert.fail);
  while (!refreshed) await new Promise((resolve) => setImmediate(resolve));
  task.abort();
  refreshed();
  assert.equal((await call(reader, "GET", "/api/v1/prices")).status, 200);
  assert.equal(asked.filter((one) => one.path.endsWith("/me")).length, 1);
});

test("a sign-out during a refresh ends the new session", async (t) => {
  let refreshed = null;
  const { reader, asked } = await setUp(t, strict((response) => { refreshed = () => json(response, 200, NEXT); }));
  const signedOut = new Promise((resolve) => reader.signOut(resolve));
  while (!refreshed) await new Promise((resolve) => setImmediate(resolve));
  refreshed();
  assert.equal(await signedOut, null);
  assert.equal(reader.tokens(), null);
  assert.deepEqual(asked.map((one) => `${one.method} ${one.headers.authorization}`), ["DELETE Bearer a1", "GET Bearer r1", "DELETE Bearer a2"]);
});

test("tokens that were removed during a refresh stay removed", async (t) => {
  const { reader, phone } = await setUp(t, strict((response) => { phone.wx.removeStorageSync("aideer.tokens"); json(response, 200, NEXT); }));
  assert.equal((await call(reader, "GET", "/api/v1/users/me")).status, 401);
  assert.equal(reader.tokens(), null);
});

test("Node's own require loads the file, too", () => {
  const reader = createRequire(import.meta.url)("../aideer.js");
  assert.deepEqual(Object.keys(reader).sort(), ["create", "parser"]);
});

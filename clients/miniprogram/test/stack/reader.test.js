/** The reader against a running stack, by both ways: streams, and polls. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BASE, breakingLine, call, checkStored, newChat, newPhone, read, signIn, streamThrough, textOf } from "./stack.js";

const SLOW = "/sim tokens=80 delay=25\n鹿吃什么？🦌🌲 e\u0301 𠮷";
const WAYS = [["streams", "3.5.0"], ["polls", "2.20.1"]];
const ask = (reader, chatId, content = SLOW, key = undefined) =>
  (tell) => reader.ask({ chat_id: chatId, messages: [{ role: "user", content }] }, { key }, tell);

async function setUp(given, options) {
  const one = newPhone(given, options);
  await signIn(one.reader);
  if (given?.base) streamThrough(one.phone, given.base);
  return { ...one, chatId: await newChat(one.reader) };
}

for (const [way, version] of WAYS) {
  test(`${way}: an answer comes in pieces, and is the stored one`, async () => {
    const { reader, phone, chatId } = await setUp({ version, cut: (bytes) => Array.from(bytes, (byte) => [byte]) });
    const events = await read(ask(reader, chatId));
    await checkStored(reader, events, chatId);
    assert.ok(events.filter((event) => event.type === "text").length > 3);
    assert.ok(phone.mostAtOnce <= 10);
    assert.ok(phone.sent.every(({ url }) => !url.includes("token=") && !url.includes("ticket=")));
  });

  test(`${way}: a line that breaks again and again loses and repeats no character`, async (t) => {
    const line = await breakingLine(t, { after: 700, breaks: 5 });
    const { reader, chatId } = await setUp({ version, base: line.base });
    const events = await read(ask(reader, chatId));
    await checkStored(reader, events, chatId);
    assert.ok(line.broken >= 2, `${line.broken} breaks`);
  });

  test(`${way}: if the answer to the question is lost, it is asked and paid once`, async (t) => {
    const line = await breakingLine(t, { after: 0, breaks: 2 });
    const { reader, phone, chatId } = await setUp({ version, base: line.base });
    const events = await read(ask(reader, chatId, "/sim echo delay=0\n只问一次 🦌"));
    await checkStored(reader, events, chatId);
    assert.equal(line.broken, 2);
    const keys = phone.sent.map(({ header }) => header["Idempotency-Key"]).filter(Boolean);
    assert.equal(keys.length, 3);
    assert.equal(new Set(keys).size, 1);
  });

  test(`${way}: five seconds in the background, and the answer goes on`, async () => {
    const { reader, phone, chatId } = await setUp({ version });
    let hidden = false;
    const events = await read(ask(reader, chatId, "/sim tokens=200 delay=60\n背景"), (event) => {
      if (event.type === "text" && !hidden) { hidden = true; phone.hide(); }
      if (event.type === "lost") phone.show();
    });
    await checkStored(reader, events, chatId);
    assert.ok(phone.failed.includes("request:fail interrupted"));
  });

  test(`${way}: stop keeps and bills what was made`, async () => {
    const { reader, chatId } = await setUp({ version });
    let asked = false;
    const events = await read(ask(reader, chatId, "/sim tokens=2000 delay=20\n停"), (event, answer) => {
      if (event.type === "text" && !asked) { asked = true; answer.stop(); }
    });
    assert.equal(events.at(-1).data.status, "stopped");
    assert.ok(events.at(-1).text.length > 0);
    await checkStored(reader, events, chatId);
  });

  test(`${way}: a token that is refused in the middle is refreshed, and the answer goes on`, async (t) => {
    const line = await breakingLine(t, { after: 700, breaks: 1 });
    const { reader, phone, chatId } = await setUp({ version, base: line.base });
    const first = reader.tokens();
    const events = await read(ask(reader, chatId), (event) => {
      if (event.type === "open") phone.wx.setStorageSync("aideer.tokens", { ...first, access_token: "refused" });
    });
    await checkStored(reader, events, chatId);
    assert.notEqual(reader.tokens().refresh_token, first.refresh_token);
    assert.equal(phone.sent.filter(({ url }) => url.endsWith("/session/wechat/refresh")).length, 1);
  });
}

test("a second phone of the same person reads the same answer from its beginning", async () => {
  const { reader, chatId, person } = await setUp();
  const other = newPhone({ person });
  await signIn(other.reader);
  let followed = null;
  const events = await read(ask(reader, chatId), (event) => {
    if (event.type === "open") followed = read((tell) => other.reader.follow(event.data.task_id, {}, tell));
  });
  assert.equal(textOf(await followed), textOf(events));
  await checkStored(reader, events, chatId);
});

test("a position at the end is 410 stream_ended", async () => {
  const { reader, chatId } = await setUp();
  const events = await read(ask(reader, chatId, "/sim echo delay=0\n完"));
  assert.equal(events.at(-1).type, "end");
  const task = events[0].data.task_id;
  for (const door of ["stream", "poll"]) {
    await assert.rejects(call(reader, "GET", `/tasks/${task}/${door}?after=end`), { status: 410, code: "stream_ended" });
  }
});

test("too few credits are 402, with what is left, and nothing is asked", async () => {
  const { reader, chatId } = await setUp();
  const me = await call(reader, "GET", "/users/me");
  const form = new URLSearchParams({ grant_type: "password", username: "admin", password: "admin123" });
  const { access_token: token } = await (await fetch(`${BASE}/api/v1/session/oauth2/token`, { method: "POST", body: form })).json();
  const taken = await fetch(`${BASE}/api/v1/users/${me.id}/credits`, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify({ amount: -me.credits_left, description: "a test" }),
  });
  assert.equal(taken.status, 200, await taken.text());
  const [event] = await read(ask(reader, chatId));
  assert.deepEqual([event.type, event.data.status, event.data.code, event.data.data.credits_left], ["error", 402, "insufficient_credits", 0]);
  assert.equal((await call(reader, "GET", `/chats/${chatId}`)).messages.filter((one) => one.role === "user").length, 0);
});

test("too many answers at one time are 429 with Retry-After, and the text is Chinese", async () => {
  const { reader } = await setUp({}, { language: "zh-CN" });
  const chats = await Promise.all(Array.from({ length: 6 }, () => newChat(reader)));
  const open = [];
  await Promise.all(chats.slice(0, 5).map((chat) => new Promise((resolve) => {
    open.push(ask(reader, chat, "/sim tokens=3000 delay=20\n慢")((event) => event.type === "text" && resolve()));
  })));
  const [event] = await read(ask(reader, chats[5]));
  assert.deepEqual([event.type, event.data.status, event.data.code], ["error", 429, "too_many_open_tasks"]);
  assert.ok(event.data.retryAfter > 0);
  assert.match(event.data.detail, /[\u4e00-\u9fff]/);
  await Promise.all(open.map((answer) => new Promise((resolve) => answer.stop(resolve))));
  open.forEach((answer) => answer.abort());
});

test("the code of the developer tools without an app id signs in at the simulated WeChat, again and again", async () => {
  for (let round = 0; round < 2; round++) {
    const { reader } = newPhone({ code: async () => "the code is a mock one" });
    await signIn(reader);
    assert.equal((await call(reader, "GET", "/users/me")).permission, 1);
  }
});

/** The pages of the example against a running stack: a question, its answer as it grows, the background, a restart, a list. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { open, start, textOf, until } from "../page.js";
import { BASE, breakingLine, call, newPhone, streamThrough } from "./stack.js";

const LONG = "/sim tokens=700 delay=8\n鹿怎么过冬？🦌🌲";
const answerOf = (data) => data.messages.at(-1);
const idle = (data) => !data.asking;
const [EVERY, LARGEST] = [80, 3000];

/** A new person opens the mini program. */
async function setUp({ base = BASE, ...given } = {}) {
  const { phone } = newPhone(given);
  const program = start(phone, base);
  const page = open(program, "pages/chat/chat");
  await until(page, (data) => data.credits !== null, "the credits are shown");
  streamThrough(phone, base);
  return { phone, program, page, reader: program.app.api };
}

function type(page, text) {
  page.typed({ detail: { value: text } });
  page.send();
}

/** What the chat has stored: one question, one answer, which is the shown one. */
async function checkShown(page, reader, messages = 2) {
  const chat = await call(reader, "GET", `/chats/${page.chatId}`);
  const stored = chat.messages.filter((message) => message.role !== "system");
  assert.equal(stored.length, messages);
  assert.deepEqual(page.data.messages.map(textOf), stored.map((message) => message.content));
  assert.ok(page.data.messages.every(({ parts }) => parts.every((part) => part.isWellFormed() && part.length <= 500)));
  return chat;
}

test("a question is answered: the text grows, by few and small calls of setData, and the credits are what is left", async () => {
  const { page, reader } = await setUp();
  const before = page.data.credits;
  page.calls = [];
  const began = performance.now();
  type(page, LONG);
  const lengths = new Set();
  await until(page, (data) => {
    if (data.messages.length === 2) lengths.add(textOf(answerOf(data)).length);
    return data.messages.length === 2 && idle(data);
  }, "the answer ends");
  assert.ok(lengths.size > 10, `${lengths.size} lengths`);
  const chat = await checkShown(page, reader);
  assert.ok(answerOf(page.data).parts.length > 1);
  assert.ok(page.calls.length <= (performance.now() - began) / EVERY + 12, `${page.calls.length} calls`);
  assert.ok(page.mostWaiting <= 3, `${page.mostWaiting} calls at one time`);
  assert.ok(page.calls.every(({ size }) => size < LARGEST), "no call sends the whole text");
  assert.equal(page.data.credits, before - chat.messages.at(-1).credits);
  assert.equal(page.data.draft, "");
});

test("the background interrupts an answer, and onShow goes on with it", async () => {
  const { page, reader, phone } = await setUp({ background: 100 });
  type(page, LONG);
  await until(page, (data) => data.messages.length === 2 && textOf(answerOf(data)).length > 30, "text comes");
  phone.hide();
  await until(page, (data) => data.status.includes("重连"), "the line is lost");
  const shown = textOf(answerOf(page.data));
  phone.show();
  page.onShow();
  await until(page, idle, "the answer ends");
  assert.ok(textOf(answerOf(page.data)).startsWith(shown));
  await checkShown(page, reader);
  assert.equal(page.data.status, "");
});

test("after a restart in mid-answer, the chat is shown and its answer goes on", async () => {
  const { page, phone } = await setUp();
  type(page, LONG);
  await until(page, (data) => data.messages.length === 2 && textOf(answerOf(data)).length > 30, "text comes");
  page.onUnload();
  const program = start(phone, BASE);
  const next = open(program, "pages/chat/chat");
  await until(next, (data) => data.asking, "the answer is followed");
  await until(next, idle, "the answer ends");
  await checkShown(next, program.app.api);
});

test("a question that was on its way when the program ended is asked once, with its key", async (t) => {
  const line = await breakingLine(t, { after: 0, breaks: 1 });
  const { page, phone } = await setUp({ base: line.base });
  type(page, "/sim echo delay=0\n只问一次 🦌");
  await until(page, (data) => data.status.includes("重连"), "its acceptance is lost");
  page.onUnload();
  const program = start(phone, BASE);
  const next = open(program, "pages/chat/chat");
  await until(next, (data) => data.messages.length === 2 && idle(data), "it is answered");
  await checkShown(next, program.app.api);
  assert.equal((await call(program.app.api, "GET", "/chats")).length, 1);
  assert.equal(phone.storage.get("aideer.asking"), "");
});

test("stop keeps what was made, and says so", async () => {
  const { page, reader } = await setUp();
  type(page, "/sim tokens=3000 delay=20\n停");
  await until(page, (data) => data.messages.length === 2 && textOf(answerOf(data)).length > 10, "text comes");
  page.stop();
  await until(page, idle, "it is stopped");
  assert.equal(answerOf(page.data).note, "已停止");
  await checkShown(page, reader);
});

test("a refused question goes back into the field, with the reason in Chinese", async () => {
  const { page, program, reader } = await setUp();
  type(page, "/sim tokens=3000 delay=20\n慢");
  await until(page, (data) => data.messages.length === 2 && textOf(answerOf(data)).length > 10, "text comes");
  // A second place asks in the same chat.
  const other = open(program, "pages/chat/chat");
  await until(other, (data) => data.asking, "it follows the same answer");
  other.answer.abort();
  other.answer = null;
  other.data.asking = false;
  const shown = other.data.messages.length;
  type(other, "还有呢？");
  await until(other, (data) => data.notice !== "", "it is refused");
  assert.match(other.data.notice, /[\u4e00-\u9fff]/);
  assert.equal(other.data.draft, "还有呢？");
  assert.equal(other.data.messages.length, shown);
  page.stop();
  await until(page, idle, "the first one stops");
  await checkShown(page, reader);
});

test("a new chat is empty, the list has both, and a tap opens one", async () => {
  const { page, program, phone } = await setUp();
  type(page, "/sim echo delay=0\n第一");
  await until(page, (data) => data.messages.length === 2 && idle(data), "the first answer");
  const first = page.chatId;
  page.newChat();
  assert.deepEqual(page.data.messages, []);
  type(page, "/sim echo delay=0\n第二");
  await until(page, (data) => data.messages.length === 2 && idle(data), "the second answer");
  assert.notEqual(page.chatId, first);
  page.list();
  const list = open(program, "pages/chats/chats");
  await until(list, (data) => data.chats.length === 2 && !data.loading, "two chats");
  assert.equal(list.data.chats[0].id, page.chatId);
  list.open({ currentTarget: { dataset: { id: first } } });
  list.onUnload();
  page.onShow();
  await until(page, (data) => data.messages.length === 2 && textOf(data.messages[1]) === "第一", "the first chat");
  assert.deepEqual(phone.shown.map(({ name }) => name), ["navigateTo", "navigateBack"]);
});

test("without a server the page says so, and the button tries again", async () => {
  const { phone } = newPhone();
  const program = start(phone, "http://127.0.0.1:9");
  const page = open(program, "pages/chat/chat");
  await until(page, (data) => data.notice.includes("网络"), "the notice");
  program.app.api.base = BASE;
  page.retry();
  await until(page, (data) => data.credits !== null, "the credits");
  assert.equal(page.data.notice, "");
});

test("an old base library shows the same answer", async () => {
  const { page, reader, phone } = await setUp({ version: "2.19.4" });
  type(page, LONG);
  await until(page, (data) => data.messages.length === 2 && idle(data), "the answer ends");
  await checkShown(page, reader);
  assert.ok(phone.sent.some(({ url }) => url.includes("/poll?after=")));
});

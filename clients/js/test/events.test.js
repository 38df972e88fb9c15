/** Events are read whole, wherever the network cuts their bytes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readEvents } from "./subject.js";
import { stream } from "./server.js";

/** @param {Uint8Array[]} chunks */
async function read(chunks) {
  const body = new ReadableStream({ start(controller) { chunks.forEach((chunk) => controller.enqueue(chunk)); controller.close(); } });
  const events = [];
  for await (const event of readEvents(body)) events.push(event);
  return events;
}

const bytes = (/** @type {string} */ text) => new TextEncoder().encode(text);

test("a stream with emoji and CJK is the same, cut at every byte", async () => {
  const whole = bytes(stream(0));
  const expected = await read([whole]);
  assert.equal(expected.length, 12);
  for (let at = 0; at <= whole.length; at++) assert.deepEqual(await read([whole.subarray(0, at), whole.subarray(at)]), expected, `cut at ${at}`);
});

test("a stream that comes byte by byte is the same", async () => {
  const whole = bytes(stream(0));
  assert.deepEqual(await read(Array.from(whole, (byte) => Uint8Array.of(byte))), await read([whole]));
});

for (const [name, end] of [["CR", "\r"], ["CRLF", "\r\n"]]) {
  test(`lines that end with ${name} are the same, cut at every byte`, async () => {
    const expected = await read([bytes(stream(0))]);
    const whole = bytes(stream(0).replaceAll("\n", end) + ":");
    for (let at = 0; at <= whole.length; at++) assert.deepEqual(await read([whole.subarray(0, at), whole.subarray(at)]), expected, `cut at ${at}`);
  });
}

test("an event without its end is dropped", async () => {
  const whole = stream(0);
  const last = whole.lastIndexOf("event: close");
  for (let at = last; at < whole.length; at++) {
    const events = await read([bytes(whole.slice(0, at))]);
    assert.equal(events.at(-1)?.id, "end");
    assert.equal(events.at(-1)?.event, "message");
  }
});

test("a byte order mark, comments, unknown fields and data of several lines are read as the standard says", async () => {
  const events = await read([bytes("\uFEFFdata: a\ndata:b\ndata\nother: x\n:comment\n\nevent: named\n\nid: 7\nretry: 30\ndata: c\n\n")]);
  assert.deepEqual(events, [
    { id: "", event: "message", data: "a\nb\n", retry: undefined },
    { id: "7", event: "message", data: "c", retry: 30 },
  ]);
});

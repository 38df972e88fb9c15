/** A running stack, its simulated WeChat, people who sign in by it, and lines that break. `make miniprogram` starts the stack. */
import assert from "node:assert/strict";
import net from "node:net";
import { load } from "../program.js";
import { makePhone } from "../wx.js";

export const BASE = process.env.AIDEER_URL ?? "";
assert.ok(BASE, "AIDEER_URL is missing: run `make miniprogram`");

/** The address of the simulated WeChat: the one that the website sign-in leads to. */
const authorize = await fetch(`${BASE}/api/v1/session/wechat/authorize?code_challenge=${"c".repeat(43)}&code_challenge_method=S256`, { redirect: "manual" });
const WECHAT = new URL(authorize.headers.get("location") ?? "").origin;
let people = 0;

/** A phone of a person who never was here before, with a reader. The phone's requests go to `base`. */
export function newPhone({ base = BASE, person = `p${process.pid}-${Date.now()}-${++people}`, ...given } = {}, options = {}) {
  const code = async () => (await (await fetch(`${WECHAT}/__code?as=${encodeURIComponent(person)}`)).json()).code;
  const phone = makePhone({ code, ...given });
  const reader = load(phone.wx).require("aideer.js").create({ base, ...options });
  return { phone, reader, person };
}

/** @returns {Promise<any>} the data of a reply; a refusal is thrown */
export function call(reader, method, path, body) {
  return new Promise((resolve, reject) => {
    reader.request(method, `/api/v1${path}`, { body }, (error, reply) => (error ? reject(Object.assign(new Error(error.code), error)) : resolve(reply.data)));
  });
}

/** Streams have the origin that the sign-in tells. Through a line they must have the line's. */
export function streamThrough(phone, base) {
  phone.wx.setStorageSync("aideer.tokens", { ...phone.wx.getStorageSync("aideer.tokens"), stream_base: base });
}

export const signIn = (reader) => new Promise((resolve, reject) => reader.signIn((error) => (error ? reject(new Error(error.code)) : resolve())));

export async function newChat(reader) {
  const { default_preset: preset } = await call(reader, "GET", "/config");
  return (await call(reader, "POST", "/chats", { preset_id: preset.id, title: "A chat" })).id;
}

/** Read an answer up to its last event. also(event, answer) sees each. */
export function read(open, also = () => {}) {
  return new Promise((resolve) => {
    const events = [];
    const answer = open((event) => {
      events.push(event);
      also(event, answer);
      if (["end", "gone", "error"].includes(event.type)) resolve(events);
    });
  });
}

export const textOf = (events) => events.filter((event) => event.type === "text").map((event) => event.text).join("");

/** The promise of every test here: the shown text is the stored one, asked once and paid once. */
export async function checkStored(reader, events, chatId) {
  const last = events.at(-1);
  const chat = await call(reader, "GET", `/chats/${chatId}`);
  assert.equal(last.type, "end", JSON.stringify(last));
  assert.equal(chat.messages.at(-1).content, textOf(events));
  assert.equal(last.text, textOf(events));
  assert.equal(chat.messages.filter((message) => message.role !== "system").length, 2);
  const { credit_records: records } = await call(reader, "GET", "/users/me/credits?limit=50");
  assert.deepEqual(records.filter((one) => one.amount < 0).map((one) => -one.amount), [last.data.credits]);
}

/** A way to the stack that breaks after so many bytes of the answer to a call of /tasks, `breaks` times. */
export async function breakingLine(t, { after, breaks }) {
  const { hostname, port } = new URL(BASE);
  const line = { broken: 0, base: "" };
  const server = net.createServer((client) => {
    const target = net.connect(Number(port), hostname);
    let carried = 0;
    let counts = false;
    // The stack refuses foreign hosts, and the name of this line is one.
    const ours = new RegExp(`^(host: )127\\.0\\.0\\.1:${server.address().port}\r$`, "im");
    client.once("data", (bytes) => { counts = /^(GET|POST) \/api\/v1\/tasks/.test(bytes.toString("latin1")); });
    client.on("data", (bytes) => target.write(Buffer.from(bytes.toString("latin1").replace(ours, `$1${hostname}:${port}\r`), "latin1")));
    target.on("data", (bytes) => {
      if (counts && breaks > 0 && carried + bytes.length > after) {
        breaks--;
        line.broken++;
        client.write(bytes.subarray(0, Math.max(after - carried, 0)), () => client.destroySoon());
        target.destroy();
      } else client.write(bytes);
      carried += bytes.length;
    });
    for (const [one, other] of [[client, target], [target, client]]) {
      one.on("close", () => other.destroySoon());
      one.on("error", () => other.destroy());
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  t.after(() => server.close());
  line.base = `http://127.0.0.1:${server.address().port}`;
  return line;
}

/** What clients/js has beside answers and refreshed calls: the sign-in by a password, forms and files. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Aideer } from "../aideer.js";
import { TEXT, json, serve, storage, stream } from "./server.js";

const NEXT = { access_token: "a2", refresh_token: "r2", token_type: "bearer", expires_in: 86_400 };

test("signing in and up and out", async (t) => {
  const { base, asked } = await serve(t, (_, response) => json(response, 200, NEXT));
  const kept = storage(null);
  const api = new Aideer({ base, storage: kept });
  assert.equal(api.signedIn, false);
  await api.signUp({ username: "ada", password: "a & b", nickname: "Ada" });
  assert.equal(api.signedIn, true);
  await api.signOut();
  assert.equal(api.signedIn, false);
  await api.signIn("ada", "a & b", "my phone");
  assert.deepEqual(asked.map((one) => `${one.method} ${one.path} ${one.body}`), [
    'POST /api/v1/users {"username":"ada","password":"a & b","nickname":"Ada"}',
    "POST /api/v1/session/oauth2/token grant_type=password&username=ada&password=a+%26+b",
    "DELETE /api/v1/users/me/sessions/current ",
    "POST /api/v1/session/oauth2/token grant_type=password&username=ada&password=a+%26+b&device=my+phone",
  ]);
  assert.match(String(asked[1].headers["content-type"]), /^application\/x-www-form-urlencoded/);
});

test("after a sign-in at a server that names no host for streams, a question is queued", async (t) => {
  const { base, asked } = await serve(t, (request, response) => {
    if (request.path.startsWith("/api/v1/session")) return json(response, 200, NEXT);
    if (request.method === "POST") return json(response, 200, { task_id: "t1" });
    response.writeHead(200, { "Content-Type": "text/event-stream" }).end(stream(0));
  });
  const api = new Aideer({ base, storage: storage(null) });
  await api.signIn("ada", "a & b");
  let text = "";
  for await (const event of api.ask({ chat_id: "c1", messages: [] })) if (event.type === "text") text += event.text;
  assert.equal(text, TEXT);
  assert.deepEqual(asked.slice(1).map((one) => `${one.method} ${one.path}`), ["POST /api/v1/tasks", "GET /api/v1/tasks/t1/stream?after=0"]);
});

test("bodies and answers have their types", async (t) => {
  const { base, asked } = await serve(t, (request, response) => {
    if (request.path === "/csv") return void response.writeHead(200, { "Content-Type": "text/csv" }).end("a,b");
    if (request.path === "/jpeg") return void response.writeHead(200, { "Content-Type": "image/jpeg" }).end(Buffer.from([255, 216]));
    if (request.path === "/same") return void response.writeHead(304).end();
    json(response, 200, { ok: true }, { ETag: '"7"', "X-Next-Cursor": "c" });
  });
  const api = new Aideer({ base });
  assert.equal((await api.request("GET", "/csv")).data, "a,b");
  const picture = (await api.request("GET", "/jpeg")).data;
  assert.deepEqual([picture instanceof Blob, picture.size, picture.type], [true, 2, "image/jpeg"]);
  assert.deepEqual(await api.request("GET", "/same", { headers: { "If-None-Match": '"7"' } }).then(({ status, data }) => [status, data]), [304, null]);
  const form = new FormData();
  form.set("file", new Blob(["x"]), "x.txt");
  const { headers, data } = await api.request("POST", "/form", { body: form });
  assert.deepEqual([data.ok, headers.get("etag"), headers.get("x-next-cursor")], [true, '"7"', "c"]);
  await api.request("PUT", "/json", { body: { 鹿: "🦌" }, headers: { "If-Match": '"7"' } });
  const [, , same, multipart, sent] = asked;
  assert.equal(same.headers["if-none-match"], '"7"');
  assert.match(String(multipart.headers["content-type"]), /^multipart\/form-data; boundary=/);
  assert.deepEqual([sent.headers["content-type"], sent.body, sent.headers["if-match"]], ["application/json", '{"鹿":"🦌"}', '"7"']);
});

test("the module has at most 300 lines and no dependency", async () => {
  const { readFile } = await import("node:fs/promises");
  const source = await readFile(new URL("../aideer.js", import.meta.url), "utf8");
  assert.ok(source.split("\n").length <= 301);
  assert.doesNotMatch(source, /^\s*import\b/m);
});

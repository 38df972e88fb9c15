/** Calls carry the token, and a refused token is refreshed once for all that wait for it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { drop, json, serve, storage } from "./server.js";
import { Aideer, ApiError, refreshOf } from "./subject.js";

const TOKENS = { access_token: "a1", refresh_token: "r1" };
const NEXT = { access_token: "a2", refresh_token: "r2", token_type: "bearer", expires_in: 86_400, stream_base: null };

/** An API that takes the access token a2 alone. @param {import("node:test").TestContext} t @param {(asked: any, response: any) => void} [refresh] */
function strict(t, refresh = (_, response) => json(response, 200, NEXT)) {
  return serve(t, (asked, response) => {
    if (refreshOf(asked)) return refresh(asked, response);
    if (asked.headers.authorization !== "Bearer a2") return json(response, 401, { detail: "This token has expired.", code: "token_expired" });
    json(response, 200, { path: asked.path, body: asked.body });
  });
}

test("parallel calls with an expired token share one refresh", async (t) => {
  const { base, asked } = await strict(t);
  const kept = storage(TOKENS);
  const api = new Aideer({ base, storage: kept });
  const replies = await Promise.all(Array.from({ length: 8 }, (_, n) => api.request("GET", `/api/v1/chats/${n}`)));
  assert.deepEqual(replies.map((reply) => reply.data.path), Array.from({ length: 8 }, (_, n) => `/api/v1/chats/${n}`));
  assert.deepEqual(asked.map(refreshOf).filter(Boolean), ["r1"]);
  assert.deepEqual(kept.changes, [NEXT]);
});

test("tokens that another tab has refreshed are used as they are", async (t) => {
  const { base, asked } = await strict(t);
  const kept = storage(TOKENS);
  const api = new Aideer({ base, storage: kept });
  const first = api.request("GET", "/api/v1/users/me");
  kept.set(NEXT); // while the first request is on its way
  assert.equal((await first).status, 200);
  assert.ok(asked.every((one) => !refreshOf(one)));
});

test("a session that is over is forgotten, once, and the call is refused", async (t) => {
  const { base } = await strict(t, (_, response) => json(response, 400, { error: "invalid_grant", detail: "This token was revoked.", code: "token_revoked" }));
  let ended = 0;
  const kept = storage(TOKENS);
  const api = new Aideer({ base, storage: kept, onSignedOut: () => ended++ });
  const refused = await Promise.allSettled([1, 2, 3].map(() => api.request("GET", "/api/v1/users/me")));
  assert.ok(refused.every((one) => one.status === "rejected" && one.reason instanceof ApiError && one.reason.status === 401));
  assert.equal(ended, 1);
  assert.equal(api.signedIn, false);
});

test("a refresh that does not arrive keeps the tokens", async (t) => {
  for (const fail of [drop, (/** @type {any} */ response) => json(response, 503, { detail: "Busy.", code: "busy" })]) {
    const { base } = await strict(t, (_, response) => fail(response));
    const api = new Aideer({ base, storage: storage(TOKENS), onSignedOut: () => assert.fail("the session goes on") });
    await assert.rejects(api.request("GET", "/api/v1/users/me"), (/** @type {any} */ error) => [0, 503].includes(error.status));
    assert.equal(api.signedIn, true);
  }
});

test("a call that is refused after a refresh is not sent a third time", async (t) => {
  const { base, asked } = await strict(t, (_, response) => json(response, 200, { access_token: "a3", refresh_token: "r3" }));
  await assert.rejects(new Aideer({ base, storage: storage(TOKENS) }).request("GET", "/api/v1/users/me"), { status: 401 });
  assert.equal(asked.length, 3);
});

test("a stranger's 401 refreshes nothing", async (t) => {
  const { base, asked } = await strict(t);
  await assert.rejects(new Aideer({ base }).request("GET", "/api/v1/users/me"), { status: 401, code: "token_expired" });
  assert.equal(asked.length, 1);
  assert.equal(asked[0].headers.authorization, undefined);
});

test("signing out forgets the tokens without a server", async (t) => {
  const { base } = await serve(t, (_, response) => drop(response));
  const api = new Aideer({ base, storage: storage(TOKENS) });
  await api.signOut();
  assert.equal(api.signedIn, false);
});

test("an error has its code, its text in the wanted language, and what the server adds", async (t) => {
  const { base, asked } = await serve(t, (request, response) => {
    if (request.path === "/validation") return json(response, 422, { code: "validation_error", detail: [{ msg: "One." }, { msg: "Two." }] });
    if (request.path === "/gateway") return json(response, 429, { message: "Too Many Requests" });
    if (request.path === "/html") return void response.writeHead(502, { "Content-Type": "text/html" }).end("<html>");
    json(response, 402, { detail: "积分不足。", code: "insufficient_credits", credits_left: 1 });
  });
  const api = new Aideer({ base, language: "zh" });
  const refused = (/** @type {string} */ path) => api.request("GET", path).then(() => assert.fail("not refused"), (error) => error);
  assert.deepEqual(await refused("/x").then(({ status, code, message, data }) => [status, code, message, data.credits_left]), [402, "insufficient_credits", "积分不足。", 1]);
  assert.equal((await refused("/validation")).message, "One. Two.");
  assert.deepEqual(await refused("/gateway").then(({ code, message, retryAfter }) => [code, message, retryAfter]), ["http_429", "Too Many Requests", null]);
  assert.deepEqual(await refused("/html").then(({ status, code }) => [status, code]), [502, "http_502"]);
  assert.ok(asked.every((one) => one.headers["accept-language"] === "zh"));
});

test("a request that does not arrive is a network error, and an aborted one an AbortError", async (t) => {
  const { base } = await serve(t, (request, response) => void (request.path === "/lost" && drop(response)));
  const api = new Aideer({ base });
  await assert.rejects(api.request("GET", "/lost"), { status: 0, code: "network" });
  await assert.rejects(api.request("GET", "/hangs", { signal: AbortSignal.timeout(50) }), { name: "TimeoutError" });
});

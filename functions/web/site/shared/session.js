/**
 * The one signed-in session of a page: its client, its user, and the form to sign in.
 *
 * The tokens are in localStorage, so that a reload and a second tab stay signed in. A script that runs in this page could read
 * them; docs/security.md says why no script of an answer runs here. They are in no address and in no cookie.
 */
import { Aideer, ApiError } from "../aideer.js";
import { language, t, has } from "./text.js";
import { Button, Deer, Field, Icon, Notice, Segments, effect, html, signal, toast, useSignal } from "./ui.js";

export { ApiError };

const TOKENS = "aideer.tokens";
const VERIFIER = "aideer.wechat_verifier";

/** @typedef {{id: string, username: string|null, nickname: string, permission: number, avatar_url: string|null,
 *   credits_left: number, credits_held: number, create_time: string}} User */

/** Whether somebody is signed in, in any tab of this browser. */
export const signedIn = signal(false);
/** @type {import("../vendor/signals.js").Signal<User|null>} */
export const user = signal(null);
/** The answer of GET /config. @type {import("../vendor/signals.js").Signal<any>} */
export const config = signal(null);
/** Why the last session ended, if it ended by itself. @type {import("../vendor/signals.js").Signal<string>} */
export const endedBecause = signal("");

/** localStorage, or memory where the browser refuses it. */
const memory = new Map();
const store = {
  get(key) { try { return localStorage.getItem(key); } catch { return memory.get(key) ?? null; } },
  set(key, value) {
    try {
      if (value === null) localStorage.removeItem(key);
      else localStorage.setItem(key, value);
    } catch { memory.set(key, value); }
  },
};

const storage = {
  get() {
    try { return JSON.parse(store.get(TOKENS) ?? "null"); } catch { return null; }
  },
  set(tokens) {
    store.set(TOKENS, tokens ? JSON.stringify(tokens) : null);
    if (tokens) signedIn.value = true;
  },
};

/** The client of this page. It refreshes its tokens by itself. */
export const api = new Aideer({ base: location.origin, storage, onSignedOut: () => { endSession(); } });
effect(() => { api.language = language.value; });
signedIn.value = Boolean(storage.get());

// Another tab signed in, signed out, or refreshed.
addEventListener("storage", (event) => {
  if (event.key !== TOKENS) return;
  signedIn.value = Boolean(event.newValue);
  if (!event.newValue) user.value = null;
});

function endSession() {
  if (user.value) endedBecause.value = t("session.ended");
  signedIn.value = false;
  user.value = null;
}

/**
 * Call the API. Return the data of the answer.
 * @param {string} method
 * @param {string} path below /api/v1, such as "/chats"
 * @param {{body?: any, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 * @returns {Promise<any>}
 */
export async function call(method, path, options) {
  return (await request(method, path, options)).data;
}

/**
 * As `call`, with the status and the headers of the answer.
 * @param {string} method
 * @param {string} path
 * @param {{body?: any, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 * @returns {Promise<{status: number, headers: Headers, data: any}>}
 */
export function request(method, path, options = {}) {
  return api.request(method, `/api/v1${path}`, options);
}

/**
 * Read a list, page by page. The cursor is null where there is no more.
 * @param {string} path
 * @param {string|null} [cursor]
 * @returns {Promise<{items: any[], cursor: string|null}>}
 */
export async function readPage(path, cursor = null) {
  const join = path.includes("?") ? "&" : "?";
  const { headers, data } = await request("GET", cursor ? `${path}${join}cursor=${encodeURIComponent(cursor)}` : path);
  return { items: data, cursor: headers.get("X-Next-Cursor") };
}

/**
 * Return a sentence for a person: what went wrong, and what to do.
 * @param {any} error
 * @returns {string}
 */
export function explain(error) {
  if (error?.name === "AbortError") return t("error.aborted");
  if (!(error instanceof ApiError) || error.status === 0) return navigator.onLine ? t("error.network") : t("error.offline");
  const key = `error.${error.code}`;
  const known = has(key) ? t(key, { seconds: error.retryAfter ?? 0, ...error.data }) : "";
  const detail = typeof error.data?.detail === "string" ? error.data.detail : "";
  if (error.code === "validation_error") return describeFields(error) || t("error.validation_error");
  if (known) return known;
  if (detail) return detail;
  if (error.status === 429) return t("error.too_many", { seconds: error.retryAfter ?? 60 });
  if (error.status >= 500) return t("error.server");
  return error.message || t("error.server");
}

/** @param {any} error */
function describeFields(error) {
  const list = Array.isArray(error.data?.detail) ? error.data.detail : [];
  return list.map((one) => one.msg).filter(Boolean).join(" ");
}

/** Show why something failed. @param {any} error */
export function showError(error) {
  if (error?.name === "AbortError") return;
  toast(explain(error));
}

/** Read the deployment's configuration. */
export async function loadConfig() {
  config.value = await call("GET", "/config");
  return config.value;
}

/** Read the signed-in user. */
export async function loadUser() {
  user.value = await call("GET", "/users/me");
  return user.value;
}

/** @param {{username: string, password: string}} form */
async function signIn({ username, password }) {
  await api.signIn(username, password);
  await begin();
}

/** @param {{username: string, password: string, nickname?: string}} form */
async function signUp(form) {
  await api.signUp(form);
  await begin();
}

async function begin() {
  endedBecause.value = "";
  signedIn.value = true;
  await loadUser();
}

/** End the session of this device. */
export async function signOut() {
  await api.signOut();
  endedBecause.value = "";
  signedIn.value = false;
  user.value = null;
}

/** Whether this is a stack on the reader's own machine, where a guest may come in. */
export const isLocal = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);

/** Come in as a new user with a name and a password that nobody needs to know. */
export async function continueAsGuest() {
  const random = (bytes) => [...crypto.getRandomValues(new Uint8Array(bytes))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  await signUp({ username: `guest-${random(5)}`, password: random(16), nickname: t("session.guest_name") });
}

/** Go to WeChat's page. Its ticket comes back in the fragment of this page's address (PKCE, RFC 7636). */
export async function goToWechat() {
  const verifier = base64url(crypto.getRandomValues(new Uint8Array(32)));
  sessionStorage.setItem(VERIFIER, verifier);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  const query = new URLSearchParams({ code_challenge: base64url(new Uint8Array(digest)), code_challenge_method: "S256" });
  location.assign(`/api/v1/session/wechat/authorize?${query}`);
}

/** @param {Uint8Array} bytes */
function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** What the page says of a refusal's code. Of all others it says that the sign-in did not work. */
const WECHAT_REFUSALS = { __proto__: null, // a link may name an error "constructor"
  wechat_declined: "session.wechat_declined", too_many_attempts: "session.wechat_too_often", wechat_too_often: "session.wechat_too_often" };

/** Sign in with the ticket that WeChat's sign-in put into the address, and take it out of the address first. */
export async function redeemTicket() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const ticket = fragment.get("ticket");
  const refused = fragment.get("error");
  if (!ticket && !refused) return;
  history.replaceState(null, "", location.pathname + location.search);
  if (!ticket) {
    const text = t(WECHAT_REFUSALS[refused ?? ""] ?? "session.wechat_failed");
    if (signedIn.value) toast(text);
    else endedBecause.value = text;
    return;
  }
  const verifier = sessionStorage.getItem(VERIFIER);
  sessionStorage.removeItem(VERIFIER);
  try {
    const answer = await fetch("/api/v1/session/refresh", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Accept-Language": language.value },
      body: JSON.stringify({ ticket, code_verifier: verifier ?? undefined }),
    });
    const data = await answer.json();
    if (!answer.ok) throw new Error(typeof data.detail === "string" ? data.detail : "");
    storage.set({ stream_base: null, ...data });
    await begin();
  } catch (error) {
    endedBecause.value = error.message || t("session.wechat_failed");
  }
}

/**
 * The card to sign in or up. `onlySignIn` leaves out sign-up and guests, as in the console.
 * @param {{title?: string, text?: string, onlySignIn?: boolean, onDone?: () => void}} props
 */
export function SignIn({ title, text, onlySignIn = false, onDone }) {
  const mode = useSignal(/** @type {"in"|"up"} */ ("in"));
  const username = useSignal("");
  const password = useSignal("");
  const problem = useSignal("");
  const busy = useSignal("");
  const ways = config.value?.sign_in ?? { password: true };
  const limits = config.value?.limits;

  /** @param {string} what @param {() => Promise<any>} run */
  const attempt = async (what, run) => {
    busy.value = what;
    problem.value = "";
    try {
      await run();
      onDone?.();
    } catch (error) {
      problem.value = explain(error);
    } finally {
      busy.value = "";
    }
  };
  const submit = (event) => {
    event.preventDefault();
    const form = { username: username.value.trim(), password: password.value };
    attempt("form", () => (mode.value === "in" ? signIn(form) : signUp(form)));
  };
  const up = mode.value === "up";
  return html`<section class="sign-in card stack">
    <div class="stack tight">
      <${Deer} size=${40} />
      <h1>${title ?? t(up ? "session.title_up" : "session.title_in")}</h1>
      ${text && html`<p class="muted">${text}</p>`}
    </div>
    ${endedBecause.value && html`<${Notice} kind="warning">${endedBecause.value}<//>`}
    ${isLocal && !onlySignIn && html`
      <${Button} kind="primary" wide busy=${busy.value === "guest"} disabled=${Boolean(busy.value)} onClick=${() => attempt("guest", continueAsGuest)}>${t("session.guest")}<//>
      <p class="or">${t("session.or")}</p>`}
    ${!onlySignIn && html`<${Segments} label=${t("session.mode")} value=${mode.value} onChange=${(value) => { mode.value = value; problem.value = ""; }}
      options=${[{ value: "in", label: t("session.in") }, { value: "up", label: t("session.up") }]} />`}
    <form class="stack" onSubmit=${submit}>
      <${Field} label=${t("session.username")}>${(attributes) => html`<input ...${attributes} name="username" autocomplete="username" autocapitalize="none" spellcheck=${false}
        required minlength=${up ? limits?.username_characters.least : undefined} maxlength=${255} value=${username.value} onInput=${(event) => { username.value = event.currentTarget.value; }} />`}<//>
      <${Field} label=${t("session.password")} problem=${problem.value} hint=${up ? t("session.password_hint", { least: limits?.password_characters.least ?? 6 }) : undefined}>${(attributes) => html`<input
        ...${attributes} type="password" name="password" autocomplete=${up ? "new-password" : "current-password"} required minlength=${up ? limits?.password_characters.least : undefined}
        maxlength=${255} value=${password.value} onInput=${(event) => { password.value = event.currentTarget.value; }} />`}<//>
      <${Button} type="submit" kind=${isLocal && !onlySignIn ? "" : "primary"} wide busy=${busy.value === "form"} disabled=${Boolean(busy.value)}>${t(up ? "session.submit_up" : "session.submit_in")}<//>
    </form>
    ${ways.wechat_website && ways.wechat_website_ticket && !onlySignIn && html`
      <${Button} wide disabled=${Boolean(busy.value)} onClick=${goToWechat}><span class="wechat row"><${Icon} name="chat" /></span>${t("session.wechat")}<//>`}
  </section>`;
}

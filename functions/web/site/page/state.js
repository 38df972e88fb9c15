/**
 * What the chat page knows: the list of chats, the open chat, and the presets. Components read the signals; the functions here
 * change them, and tell the other tabs.
 */
import { batch, effect, signal } from "../shared/ui.js";
import { ApiError, call, config, readPage, request, showError, signedIn, user } from "../shared/session.js";

/** @typedef {{id: string, title: string, title_source: string, preset_id: string, preset_version: number, visibility: string, version: number,
 *   active_task?: string|null, auto_title?: boolean|null, pinned?: boolean|null, archived?: boolean|null, tags?: string[]|null,
 *   create_time: string, update_time: string, message_count?: number|null, last_message?: string|null}} Chat */
/** @typedef {{n: number, role: string, type: string, content: string, create_time: string, task_id?: string|null, model?: string|null,
 *   reasoning?: string|null, finish_reason?: string|null, usage?: any, credits?: number|null, sources?: any[]|null, upload?: any,
 *   feedback?: any, siblings?: {count: number, shown: number, branches: string[]}|null, visibility?: boolean, preview?: string}} Message */

const PAGE = 60;

/** What is shown: {name: "new"}, {name: "chat", id, n}, {name: "connect"} or {name: "shared", token}. */
export const route = signal(readRoute());
/** Whether the sidebar is open: a column on wide screens, a drawer on narrow ones. */
export const sidebarOpen = signal(matchMedia("(min-width: 860px)").matches);

matchMedia("(min-width: 860px)").addEventListener("change", (event) => { sidebarOpen.value = event.matches; });

// The list of chats

/** @type {import("../vendor/signals.js").Signal<Chat[]>} The last changed first. */
export const chats = signal([]);
/** @type {import("../vendor/signals.js").Signal<Chat[]>} */
export const pinned = signal([]);
/** {tag: string|null, archived: boolean}: which chats the list has. */
export const filter = signal({ tag: /** @type {string|null} */ (null), archived: false });
/** "" | "loading" | "ready" */
export const listState = signal("");
/** @type {string|null} */
let nextChats = null;
let listVersion = 0;
let readingMore = false;

function listPath() {
  const { tag, archived } = filter.value;
  return `/chats?order_by=update_time&limit=50&archived=${archived}${tag ? `&tag=${encodeURIComponent(tag)}` : ""}`;
}

/** Read the list anew. */
export async function loadChats() {
  const version = ++listVersion;
  listState.value = listState.value || "loading";
  try {
    const [page, pins] = await Promise.all([readPage(listPath()), filter.value.archived ? { items: [] } : readPage("/chats?pinned=true&archived=false&limit=100")]);
    if (version !== listVersion) return;
    batch(() => {
      chats.value = page.items;
      pinned.value = pins.items;
      listState.value = "ready";
    });
    nextChats = page.cursor;
  } catch (error) {
    if (version === listVersion && !chats.value.length) listState.value = "failed";
    if (!(error instanceof ApiError && error.status === 401)) showError(error);
  }
}

/** Read the next page of the list, if there is one. */
export async function loadMoreChats() {
  if (!nextChats || readingMore) return;
  readingMore = true;
  const version = listVersion;
  try {
    const page = await readPage(listPath(), nextChats);
    if (version !== listVersion) return;
    const known = new Set(chats.value.map((one) => one.id));
    chats.value = [...chats.value, ...page.items.filter((one) => !known.has(one.id))];
    nextChats = page.cursor;
  } catch (error) {
    showError(error);
  } finally {
    readingMore = false;
  }
}

/** Take over what other devices changed: the newest page of the list. */
export async function refreshChats() {
  if (!signedIn.value || listState.value !== "ready") return;
  const version = listVersion;
  try {
    const [page, pins] = await Promise.all([readPage(listPath()), filter.value.archived ? { items: [] } : readPage("/chats?pinned=true&archived=false&limit=100")]);
    if (version !== listVersion) return;
    const fresh = new Set(page.items.map((one) => one.id));
    // What is as new as this page and not on it is gone.
    const oldest = page.cursor ? page.items[page.items.length - 1]?.update_time ?? "" : "";
    const rest = chats.value.filter((one) => !fresh.has(one.id) && one.update_time < oldest);
    if (!rest.length) nextChats = page.cursor;
    batch(() => {
      chats.value = [...page.items, ...rest];
      pinned.value = pins.items;
    });
  } catch { /* the next refresh tries again */ }
}

/** @param {Chat} chat */
function fits(chat) {
  const { tag, archived } = filter.value;
  return Boolean(chat.archived) === archived && (!tag || Boolean(chat.tags?.includes(tag)));
}

/**
 * Put a chat into the list, or its new state.
 * @param {Chat} chat
 */
export function upsertChat(chat) {
  const { messages: _, ...summary } = /** @type {any} */ (chat);
  const rest = chats.value.filter((one) => one.id !== chat.id);
  const old = chats.value.find((one) => one.id === chat.id) ?? pinned.value.find((one) => one.id === chat.id);
  const merged = { ...old, active_task: null, ...summary };
  batch(() => {
    chats.value = fits(merged) ? [merged, ...rest].sort((a, b) => (a.update_time < b.update_time ? 1 : a.update_time > b.update_time ? -1 : 0)) : rest;
    const pins = pinned.value.filter((one) => one.id !== chat.id);
    pinned.value = merged.pinned && !merged.archived ? [merged, ...pins] : pins;
  });
}

/** @param {string} id */
export function dropChat(id) {
  batch(() => {
    chats.value = chats.value.filter((one) => one.id !== id);
    pinned.value = pinned.value.filter((one) => one.id !== id);
  });
}

// The open chat

/** @type {import("../vendor/signals.js").Signal<Chat|null>} */
export const chat = signal(null);
/** @type {import("../vendor/signals.js").Signal<Message[]>} A part of the chat without gaps. */
export const messages = signal([]);
export const hasOlder = signal(false);
export const hasNewer = signal(false);
/** Why the chat cannot be shown. @type {import("../vendor/signals.js").Signal<any>} */
export const chatError = signal(null);
export const chatLoading = signal(false);
let etag = "";
let opening = 0;
let readingOlder = false;
let readingNewer = false;

const hasNext = (headers) => /rel="?next"?/.test(headers.get("Link") ?? "");

/**
 * Open a chat, at its end or around one message.
 * @param {string} id
 * @param {number} [around]
 */
export async function openChat(id, around) {
  const turn = ++opening;
  const other = chat.value?.id !== id;
  batch(() => {
    if (other) {
      chat.value = null;
      messages.value = [];
    }
    chatError.value = null;
    chatLoading.value = true;
  });
  try {
    const query = around ? `limit=${PAGE}&before=${around + 20}` : `limit=${PAGE}`;
    const { headers, data } = await request("GET", `/chats/${id}?${query}`);
    if (turn !== opening) return;
    show(data, headers);
    hasNewer.value = around ? (data.messages.at(-1)?.n ?? 0) + 1 < around + 20 ? false : true : false;
  } catch (error) {
    if (turn === opening) chatError.value = error;
  } finally {
    if (turn === opening) chatLoading.value = false;
  }
}

/** Wait until the chat of the address is open, or cannot be. */
export async function chatReady() {
  await new Promise((resolve) => { setTimeout(resolve); });
  await new Promise((resolve) => {
    const stop = effect(() => {
      const to = route.value;
      if (to.name !== "chat" || chat.value?.id === to.id || chatError.value) queueMicrotask(() => { stop(); resolve(undefined); });
    });
  });
}

/** @param {any} data @param {Headers} headers */
function show(data, headers) {
  const { messages: stored, ...about } = data;
  etag = headers.get("ETag") ?? "";
  batch(() => {
    chat.value = about;
    // What was read before stays, if the path of the chat has not changed below it.
    messages.value = stored;
    hasOlder.value = hasNext(headers);
  });
}

/** Leave the chat: nothing is open. */
export function closeChat() {
  opening += 1;
  batch(() => {
    chat.value = null;
    messages.value = [];
    chatError.value = null;
    chatLoading.value = false;
    hasOlder.value = false;
    hasNewer.value = false;
  });
}

export async function loadOlder() {
  const first = messages.value[0];
  if (!hasOlder.value || readingOlder || !chat.value || !first) return;
  readingOlder = true;
  const turn = opening;
  try {
    const { headers, data } = await request("GET", `/chats/${chat.value.id}?limit=${PAGE}&before=${first.n}`);
    if (turn !== opening) return;
    batch(() => {
      messages.value = [...data.messages, ...messages.value];
      hasOlder.value = hasNext(headers);
    });
  } catch (error) {
    showError(error);
  } finally {
    readingOlder = false;
  }
}

export async function loadNewer() {
  const last = messages.value.at(-1);
  if (!hasNewer.value || readingNewer || !chat.value || !last) return;
  readingNewer = true;
  const turn = opening;
  try {
    const { headers, data } = await request("GET", `/chats/${chat.value.id}?limit=${PAGE}&after=${last.n}`);
    if (turn !== opening) return;
    batch(() => {
      messages.value = [...messages.value, ...data.messages];
      hasNewer.value = hasNext(headers);
    });
  } catch (error) {
    showError(error);
  } finally {
    readingNewer = false;
  }
}

/**
 * Read the open chat again if it has changed. Messages that were read further up are kept.
 * @param {{force?: boolean}} [options] `force`: also if its version is the one that is known
 */
export async function refreshChat({ force = false } = {}) {
  const open = chat.value;
  if (!open || hasNewer.value) return;
  const turn = opening;
  try {
    const { status, headers, data } = await request("GET", `/chats/${open.id}?limit=${PAGE}`, { headers: !force && etag ? { "If-None-Match": etag } : {} });
    if (turn !== opening || status === 304 || !data) return;
    takeChat(data, headers);
  } catch (error) {
    if (error instanceof ApiError && error.status === 304) return;
    if (error instanceof ApiError && (error.status === 404 || error.status === 403) && turn === opening) {
      dropChat(open.id);
      chatError.value = error;
    }
  }
}

/**
 * Show the chat as a call has answered it.
 * @param {any} data
 * @param {Headers} headers
 */
export function takeChat(data, headers) {
  const older = messages.value;
  const first = data.messages[0]?.n ?? Infinity;
  const keeps = older.length > 0 && older[0].n < first && older.some((one) => one.n === first && one.create_time === data.messages[0].create_time);
  const kept = keeps ? older.filter((one) => one.n < first) : [];
  const had = hasOlder.value;
  show(data, headers);
  if (kept.length) {
    messages.value = [...kept, ...data.messages];
    hasOlder.value = had;
  }
  upsertChat(data);
}

/** The id of the open chat, or "". */
export const openId = () => chat.value?.id ?? "";

/** The version of the open chat, for If-Match. */
export const ifMatch = () => ({ "If-Match": `"${chat.value?.version}"` });

/**
 * Change the fields of a chat.
 * @param {string} id
 * @param {Record<string, any>} changes
 */
export async function changeChat(id, changes) {
  const { headers, data } = await request("PUT", `/chats/${id}`, { body: changes });
  const { messages: _, ...about } = data;
  upsertChat(about);
  if (chat.value?.id === id) {
    chat.value = about;
    etag = headers.get("ETag") ?? "";
  }
  tell({ kind: "chat", id });
  return about;
}

/** @param {string} id */
export async function deleteChat(id) {
  await call("DELETE", `/chats/${id}`);
  dropChat(id);
  tell({ kind: "deleted", id });
  if (chat.value?.id === id) go({ name: "new" });
}

// Presets

/** @type {import("../vendor/signals.js").Signal<any[]|null>} */
export const presets = signal(null);
/** The preset of the next new chat. @type {import("../vendor/signals.js").Signal<string|null>} */
export const chosenPreset = signal(null);

export async function loadPresets() {
  let found = /** @type {any[]} */ ([]);
  let cursor = /** @type {string|null} */ (null);
  do {
    const page = await readPage("/presets?limit=100", cursor);
    found = [...found, ...page.items];
    cursor = page.cursor;
  } while (cursor && found.length < 500);
  presets.value = found;
}

/** @param {string|null|undefined} id */
export function findPreset(id) {
  const standard = config.value?.default_preset;
  return presets.value?.find((one) => one.id === id) ?? (standard && standard.id === id ? { ...standard, parameters: { model: standard.model } } : null);
}

/** The preset of the next question. */
export function currentPreset() {
  if (chat.value) return findPreset(chat.value.preset_id);
  return findPreset(chosenPreset.value) ?? findPreset(config.value?.default_preset?.id) ?? presets.value?.[0] ?? null;
}

/** @param {string|undefined} name */
export const findModel = (name) => config.value?.models.find((one) => one.model === name);

// Addresses. They are in the fragment, so no server is told which chat is open.

/** @typedef {{name: "new"|"connect"}|{name: "chat", id: string, n?: number}|{name: "shared", token: string}} Route */

/** @returns {Route} */
function readRoute() {
  const share = /^\/s\/([\w-]+)\/?$/.exec(location.pathname) ?? /^#\/s\/([\w-]+)$/.exec(location.hash);
  if (share) return { name: "shared", token: share[1] };
  if (location.hash === "#/connect") return { name: "connect" };
  const open = /^#\/chat\/([\w-]+)(?:\/(\d+))?$/.exec(location.hash);
  return open ? { name: "chat", id: open[1], n: open[2] ? Number(open[2]) : undefined } : { name: "new" };
}

/**
 * Go to a chat, to a new one, or to another page.
 * @param {{name: "new"|"connect"}|{name: "chat", id: string, n?: number}} to
 * @param {{replace?: boolean}} [options]
 */
export function go(to, { replace = false } = {}) {
  const hash = to.name === "chat" ? `#/chat/${to.id}${to.n ? `/${to.n}` : ""}` : to.name === "connect" ? "#/connect" : "#/";
  if (replace) history.replaceState(null, "", hash);
  else if (hash !== location.hash) history.pushState(null, "", hash);
  route.value = /** @type {any} */ (to);
}
addEventListener("popstate", () => { route.value = readRoute(); });

// Other tabs of this browser

const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("aideer") : null;

/** Tell the other tabs. @param {{kind: "chat"|"deleted"|"list"|"user", id?: string}} news */
export function tell(news) {
  channel?.postMessage({ ...news, user: user.value?.id });
}

/** @param {(news: {kind: string, id?: string}) => void} listener */
export function onNews(listener) {
  channel?.addEventListener("message", ({ data }) => { if (data.user === user.value?.id) listener(data); });
}

/** Forget everything of the last user. */
export function forgetAll() {
  listVersion += 1;
  closeChat();
  batch(() => {
    chats.value = [];
    pinned.value = [];
    presets.value = null;
    chosenPreset.value = null;
    listState.value = "";
    filter.value = { tag: null, archived: false };
  });
}

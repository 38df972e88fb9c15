/**
 * The answers that are being made. Each belongs to a chat; the thread of that chat shows it. A reload, a second tab and a lost line
 * go on with the same answer: the question is sent again with its key, or the task is followed from the last character.
 */
import { announce, batch, signal } from "../shared/ui.js";
import { ApiError, api, explain, request, user } from "../shared/session.js";
import { t } from "../shared/text.js";
import { moveDraft } from "./drafts.js";
import { chat, go, hasNewer, messages, openChat, refreshChat, route, takeChat, tell, upsertChat } from "./state.js";

const ASKING = "aideer.asking";
/** How long a question is repeated after a reload. Its key lives for a day. */
const ASKING_FRESH = 10 * 60 * 1000;

/** @typedef {{kind: "ask"|"again"|"continue"|"branch"|"follow", body?: any, questions?: any[], prefix?: {content: string, reasoning: string}, n?: number}} Plan */

/** One answer that is being made, or that has failed. */
export class Live {
  /** @param {string|null} chatId @param {Plan} plan */
  constructor(chatId, plan) {
    this.chatId = chatId;
    this.plan = plan;
    this.content = signal("");
    this.reasoning = signal("");
    this.sources = signal(/** @type {any[]} */ ([]));
    /** "sending": not accepted yet; "waiting": no text yet; "writing"; "stopping"; "failed" */
    this.phase = signal("sending");
    /** Whether the line is lost, and opened again. */
    this.lost = signal(false);
    this.error = signal("");
    this.errorCode = "";
    /** The questions as they are shown before the server has them. */
    this.questions = signal(plan.questions ?? []);
    this.held = signal(0);
    this.buffer = { content: "", reasoning: "" };
    this.abort = new AbortController();
    /** @type {any} */
    this.answer = null;
    this.taskId = "";
    /** The n of the message in whose place the answer comes, where only its task tells: after a reload, and in another tab. */
    this.replaces = signal(/** @type {number|null} */ (null));
    /** Whether the question was refused, so that nothing is stored. */
    this.refusal = false;
    this.waiting = false;
  }

  /** Show the buffered text: once a frame, or at once where no frame comes because the tab is hidden. */
  flush = () => {
    this.waiting = false;
    batch(() => {
      this.content.value = this.buffer.content;
      this.reasoning.value = this.buffer.reasoning;
    });
  };

  /** @param {"content"|"reasoning"} kind @param {string} text */
  add(kind, text) {
    this.buffer[kind] += text;
    if (this.phase.value !== "writing" && this.phase.value !== "stopping") this.phase.value = "writing";
    if (this.waiting) return;
    this.waiting = true;
    if (document.hidden) setTimeout(this.flush, 250);
    else requestAnimationFrame(this.flush);
  }
}

/** @type {import("../vendor/signals.js").Signal<Map<string, Live>>} By chat; a chat that has no id yet is "new". */
export const lives = signal(new Map());
/** The credits of the last answer: {state: "held"|"spent", held, spent, left}. @type {import("../vendor/signals.js").Signal<any>} */
export const bill = signal(null);

/** @param {string|null|undefined} chatId */
export const liveOf = (chatId) => lives.value.get(chatId ?? "new") ?? null;

/** @param {Live} live @param {string|null} [chatId] */
function put(live, chatId = live.chatId) {
  const next = new Map([...lives.value].filter(([, one]) => one !== live));
  next.set(chatId ?? "new", live);
  live.chatId = chatId;
  lives.value = next;
}

/** @param {Live} live */
function remove(live) {
  lives.value = new Map([...lives.value].filter(([, one]) => one !== live));
}

/** Forget an answer that has failed. @param {string|null} chatId */
export function dismiss(chatId) {
  const live = liveOf(chatId);
  if (live?.phase.value === "failed") remove(live);
}

/** Leave all answers: they are made all the same. */
export function leaveAll() {
  returned.value = null;
  for (const live of lives.value.values()) live.abort.abort();
  lives.value = new Map();
  bill.value = null;
}

const newKey = () => crypto.randomUUID();

/**
 * Ask. Resolves when the question is accepted or refused; the answer goes on.
 * @param {any} body of POST /tasks/stream
 * @param {Plan} plan
 * @param {{key?: string}} [options]
 * @returns {Promise<Live>}
 */
export function ask(body, plan, { key = newKey() } = {}) {
  const chatId = body.chat_id ?? null;
  const live = new Live(chatId, { ...plan, body });
  put(live);
  const questions = plan.questions?.map(({ preview: _, attachment: __, ...question }) => question);
  remember({ key, body, plan: { ...plan, questions } });
  return new Promise((resolve) => {
    run(live, api.ask(body, { key, signal: live.abort.signal }), () => resolve(live));
  });
}

/** Show an answer that another tab, or this page before its reload, has asked for. @param {string} chatId @param {string} taskId */
export function follow(chatId, taskId) {
  const known = liveOf(chatId);
  if (known && known.phase.value !== "failed") return known;
  const live = new Live(chatId, { kind: "follow" });
  live.phase.value = "waiting";
  put(live);
  run(live, api.follow(taskId, { after: 0, signal: live.abort.signal }), () => {});
  return live;
}

/** @param {Live} live */
export async function stop(live) {
  const phase = live.phase.value;
  live.phase.value = "stopping";
  try {
    await live.answer.stop();
  } catch (error) {
    live.phase.value = phase;
    throw error;
  }
}

/** @param {Live} live @param {any} answer @param {() => void} accepted */
async function run(live, answer, accepted) {
  live.answer = answer;
  try {
    for await (const event of answer) {
      if (event.type === "open") opened(live, event.data);
      else if (event.type === "text") live.add("content", event.text);
      else if (event.type === "reasoning") live.add("reasoning", event.text);
      else if (event.type === "lost") live.lost.value = true;
      else if (event.type === "sources") live.sources.value = event.data;
      else if (event.type === "end") {
        accepted();
        await ended(live, event.data);
        return;
      }
      if (event.type !== "lost") live.lost.value = false;
      if (event.type === "open") accepted();
    }
    // The stream ended without an end: the session is over, or another tab took this place. The chat says what is stored.
    remove(live);
    await refreshChat({ force: true });
  } catch (error) {
    if (!live.abort.signal.aborted) refused(live, error);
  } finally {
    accepted();
  }
}

/** @param {Live} live @param {any} start the data of the start event */
function opened(live, start) {
  forget();
  live.taskId = start.task_id;
  if (live.phase.value === "sending") live.phase.value = "waiting";
  announce(t("live.started"));
  const isNew = !live.chatId;
  batch(() => {
    put(live, start.chat_id);
    takePlace(live, start);
    if (isNew) upsertChat(newChat(live, start));
    if (start.credits_held) {
      live.held.value = start.credits_held;
      bill.value = { state: "held", held: start.credits_held };
      if (user.value) user.value = { ...user.value, credits_held: user.value.credits_held + start.credits_held, credits_left: user.value.credits_left - start.credits_held };
    }
    live.questions.value = live.questions.value.map((question, at) => ({ ...question, n: start.messages?.[at] ?? question.n }));
    // The questions are stored: they are messages from now on.
    if (live.questions.value.length && (chat.value?.id === start.chat_id || (isNew && route.value.name === "new"))) {
      if (isNew) {
        moveDraft(start.chat_id);
        chat.value = newChat(live, start);
        go({ name: "chat", id: start.chat_id }, { replace: true });
      }
      const at = live.plan.n ?? Infinity;
      messages.value = [...messages.value.filter((one) => one.n < at), ...live.questions.value];
      live.questions.value = [];
      if (chat.value) chat.value = { ...chat.value, version: start.chat_version ?? chat.value.version, active_task: start.task_id };
    }
  });
  tell({ kind: "chat", id: start.chat_id });
}

/** Show the answer in the place of the one that it replaces. One that goes on begins with the text that is there. @param {Live} live @param {any} start */
function takePlace(live, start) {
  live.replaces.value = start.replaces ?? null;
  const before = start.continued && chat.value?.id === start.chat_id && messages.value.find((one) => one.n === start.replaces);
  if (before) live.plan.prefix = { content: before.content, reasoning: before.reasoning ?? "" };
}

/** The chat that a question has opened, until its end reads it. @param {Live} live @param {any} start @returns {import("./state.js").Chat} */
function newChat(live, start) {
  const now = new Date().toISOString();
  const { chat: opened = {}, messages: asked = [] } = live.plan.body ?? {};
  const words = asked.find((one) => one.role === "user" && one.type === "text")?.content ?? "";
  return {
    id: start.chat_id, title: words.trim().split("\n")[0].slice(0, 50), title_source: "message", preset_id: opened.preset_id, preset_version: 0,
    visibility: "private", version: start.chat_version, active_task: start.task_id, auto_title: opened.auto_title, pinned: false, archived: false,
    tags: [], create_time: now, update_time: now,
  };
}

/** @param {Live} live @param {any} end the data of the last event */
async function ended(live, end) {
  live.flush();
  const open = chat.value?.id === live.chatId;
  const failed = end.status === "failed";
  if (end.credits_left !== undefined && end.credits_left !== null && user.value) {
    const held = Math.max(0, user.value.credits_held - live.held.value);
    user.value = { ...user.value, credits_left: end.credits_left, credits_held: held };
    tell({ kind: "user" });
  }
  if (live.held.value || !failed) bill.value = { state: "spent", held: live.held.value, spent: end.credits ?? 0, left: end.credits_left };
  announce(failed ? t("live.failed") : end.status === "stopped" ? t("live.stopped") : t("live.finished"));
  batch(() => {
    if (open && end.message && !hasNewer.value) {
      const rest = messages.value.filter((one) => one.n !== end.message.n && one.n !== live.replaces.value && !(one.task_id && one.task_id === replaced(live)));
      messages.value = [...rest, end.message].sort((a, b) => a.n - b.n);
    }
    if (open && chat.value) chat.value = { ...chat.value, version: end.chat_version ?? chat.value.version, active_task: null };
    if (failed) {
      live.error.value = end.error?.message ?? t("error.server");
      live.errorCode = end.error?.code ?? "";
      live.content.value = "";
      live.reasoning.value = "";
      live.phase.value = "failed";
    } else remove(live);
  });
  tell({ kind: "chat", id: live.chatId ?? undefined });
  await settle(live);
}

/** The task whose answer this one replaces. @param {Live} live */
const replaced = (live) => live.plan.body?.regenerate ?? live.plan.body?.continues;

/** Read what the last event does not say: branches, the chat's place in the list, and a title that comes later. @param {Live} live */
async function settle(live) {
  const id = live.chatId;
  if (!id) return;
  const body = live.plan.body;
  try {
    const { headers, data } = await request("GET", `/chats/${id}?limit=60`);
    // Another question may have been asked since: then its end reads the chat again.
    if (chat.value?.id === id && !hasNewer.value && !liveOf(id)) takeChat(data, headers);
    else upsertChat(data);
    if (body?.chat?.auto_title || data.auto_title) await waitForTitle(id);
  } catch { /* the next refresh shows it */ }
}

/** @param {string} id */
async function waitForTitle(id) {
  for (const seconds of [2, 3, 5, 10]) {
    await new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });
    const { data } = await request("GET", `/chats/${id}?limit=1`);
    const { messages: _, ...about } = data;
    if (about.title_source === "message" || about.title_source === "default") continue;
    upsertChat(about);
    if (chat.value?.id === id) await refreshChat();
    return;
  }
}

/** The question was refused: nothing is stored. @param {Live} live @param {any} error */
function refused(live, error) {
  forget();
  if (error instanceof ApiError && error.code === "task_running" && error.data?.task_id && live.chatId) {
    // Another tab asked first. Its answer is shown, and the question goes back to the composer.
    returnQuestion(live);
    remove(live);
    follow(live.chatId, error.data.task_id);
    return;
  }
  if (error instanceof ApiError && live.plan.kind === "follow") {
    remove(live);
    refreshChat({ force: true });
    return;
  }
  batch(() => {
    returnQuestion(live);
    live.error.value = explain(error);
    live.errorCode = error?.code ?? "";
    live.refusal = true;
    live.phase.value = "failed";
    live.questions.value = [];
  });
  announce(live.error.value);
}

/** What goes back into the composer after a refusal. @type {import("../vendor/signals.js").Signal<{chatId: string|null, messages: any[]}|null>} */
export const returned = signal(null);

/** @param {Live} live */
function returnQuestion(live) {
  if (live.plan.kind === "ask" && live.plan.body?.messages?.length) returned.value = { chatId: live.chatId, messages: live.questions.value };
}

// A question whose acceptance is not known yet survives a reload of this tab.

/** @param {any} asking */
function remember(asking) {
  try { sessionStorage.setItem(ASKING, JSON.stringify({ ...asking, user: user.value?.id, at: Date.now() })); } catch { /* too large, or no storage */ }
}

function forget() {
  try { sessionStorage.removeItem(ASKING); } catch { /* no storage */ }
}

/** After a reload: ask again, with the same key, what was not accepted yet. */
export function repeatAsking() {
  try {
    const asking = JSON.parse(sessionStorage.getItem(ASKING) ?? "null");
    forget();
    if (!asking || asking.user !== user.value?.id || Date.now() - asking.at > ASKING_FRESH) return;
    ask(asking.body, asking.plan, { key: asking.key });
  } catch { /* nothing that can be read */ }
}

/** Open a chat and the answer that is being made in it. @param {string} id @param {number} [n] */
export async function showChat(id, n) {
  if (chat.value?.id === id && !n && !hasNewer.value) return;
  await openChat(id, n);
  followActive();
}

/** Follow the open chat's answer, if one is being made. */
export function followActive() {
  const open = chat.value;
  if (open?.active_task) follow(open.id, open.active_task);
}

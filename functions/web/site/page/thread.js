/** The open chat: its messages, in a list that draws only what is in view, and the answer that is being made. */
import { Button, Empty, IconButton, Notice, Spinner, html, useEffect, useRef, useSignal } from "../shared/ui.js";
import { explain } from "../shared/session.js";
import { t } from "../shared/text.js";
import { WindowedList } from "../shared/list.js";
import { ask, dismiss, liveOf } from "./live.js";
import { Answer, Question } from "./message.js";
import { chat, chatError, chatLoading, go, hasNewer, hasOlder, loadNewer, loadOlder, messages, openChat, openId, route } from "./state.js";

/** Moves the view of the thread. @type {{current: import("../shared/list.js").ListControl|null}} */
export const threadControl = { current: null };

const keyOf = (item) => item.key;
/** An answer has the key of its task, from its first character on. @param {import("./state.js").Message} message */
const messageKey = (message) => (message.role === "assistant" && message.task_id ? `answer ${message.task_id}` : `${message.n} ${message.create_time}`);
/** A guess of a height, until the item was measured. @param {any} item */
function estimate(item) {
  if (item.kind !== "message") return 120;
  const { content, type, role } = item.message;
  if (type !== "text") return type === "image" ? 240 : 60;
  return (role === "user" ? 70 : 90) + Math.ceil(content.length / 70) * 27;
}

/** @returns {any[]} */
function listItems() {
  const live = liveOf(chat.value?.id ?? null);
  const running = live && live.phase.value !== "failed";
  let stored = messages.value.filter((one) => one.visibility !== false && one.role !== "system");
  const last = stored.at(-1);
  if (live && live.plan.kind === "branch" && live.questions.value.length && live.phase.value !== "failed") stored = stored.filter((one) => one.n < (live.plan.n ?? Infinity));
  // An answer that is made again or continued stands in the place of the old one.
  const takesPlace = live && (["again", "continue"].includes(live.plan.kind) || live.replaces.value === last?.n);
  if (running && takesPlace && last?.role === "assistant") stored = stored.slice(0, -1);
  const items = stored.map((message) => ({ kind: "message", key: messageKey(message), message }));
  if (!live) {
    if (last?.role === "user" && !hasNewer.value && !chat.value?.active_task && !chatLoading.value) items.push(/** @type {any} */ ({ kind: "unanswered", key: "unanswered" }));
    return items;
  }
  live.questions.value.forEach((message, at) => items.push({ kind: "message", key: `asked ${at}`, message }));
  if (!hasNewer.value) items.push(/** @type {any} */ ({ kind: running ? "live" : "failed", key: running ? `answer ${live.taskId}` : "failed", live }));
  return items;
}

function renderItem(item) {
  if (item.kind === "live") return html`<div class="turn"><${Answer} live=${item.live} /></div>`;
  if (item.kind === "failed") return html`<div class="turn"><${Failed} live=${item.live} /></div>`;
  if (item.kind === "unanswered") return html`<div class="turn"><${Unanswered} /></div>`;
  const locked = Boolean(liveOf(chat.value?.id)) && liveOf(chat.value?.id)?.phase.value !== "failed";
  const { message } = item;
  return html`<div class="turn" id=${message.n ? `message-${message.n}` : undefined}>${message.role === "user"
    ? html`<${Question} message=${message} locked=${locked} />`
    : html`<${Answer} message=${message} isLast=${message === messages.value.at(-1) && !hasNewer.value} locked=${locked} />`}</div>`;
}

/** @param {{live: import("./live.js").Live}} props */
function Failed({ live }) {
  const retry = () => {
    dismiss(live.chatId);
    const last = messages.value.at(-1);
    if (last?.role === "assistant" && last.task_id) ask({ chat_id: live.chatId, regenerate: last.task_id }, { kind: "again" });
    else ask({ chat_id: live.chatId }, { kind: "ask" });
  };
  return html`<${Notice} kind=${live.refusal ? "warning" : "danger"}>
    <p>${live.error.value}</p>
    ${!live.refusal && html`<p class="muted small">${t("live.failed_free")}</p>`}
    <div class="row wrap notice-actions">
      ${!live.refusal && live.chatId && html`<${Button} small icon="again" onClick=${retry}>${t("ui.retry")}<//>`}
      ${live.errorCode === "insufficient_credits" && html`<${Button} small kind="primary" icon="ticket" onClick=${() => import("./dialogs.js").then((module) => module.openCredits())}>${t("credits.redeem")}<//>`}
      <${Button} small kind="plain" onClick=${() => dismiss(live.chatId)}>${t("ui.close")}<//>
    </div>
  <//>`;
}

function Unanswered() {
  return html`<div class="unanswered"><span class="muted">${t("thread.unanswered")}</span>
    <${Button} small icon="again" onClick=${() => ask({ chat_id: openId() }, { kind: "ask" })}>${t("thread.answer_now")}<//></div>`;
}

export function Thread() {
  const atEnd = useSignal(true);
  const found = useRef("");
  const n = route.value.name === "chat" ? route.value.n : undefined;
  const id = chat.value?.id;

  // Show the message that a search has found.
  useEffect(() => {
    if (!n || !id || found.current === `${id} ${n}` || chatLoading.value) return;
    const message = messages.value.find((one) => one.n === n);
    if (!message) return;
    found.current = `${id} ${n}`;
    threadControl.current?.scrollTo(messageKey(message), "center");
    setTimeout(() => {
      const element = document.getElementById(`message-${n}`);
      element?.classList.add("found");
      setTimeout(() => element?.classList.remove("found"), 2500);
    }, 150);
  });

  if (chatError.value) {
    return html`<div class="thread-empty"><${Empty} icon="warning" title=${explain(chatError.value)}>
      <div class="row"><${Button} icon="again" onClick=${() => openChat(/** @type {any} */ (route.value).id)}>${t("ui.retry")}<//><${Button} kind="primary" icon="plus" onClick=${() => go({ name: "new" })}>${t("sidebar.new")}<//></div><//></div>`;
  }
  if (chatLoading.value && !messages.value.length) return html`<div class="thread-empty"><${Spinner} /></div>`;
  const items = listItems();
  return html`<div class="thread-frame">
    <${WindowedList} key=${id ?? "new"} class="thread" role="log" label=${t("thread.label")} sticks=${!n} control=${threadControl}
      items=${items} keyOf=${keyOf} estimate=${estimate} renderItem=${renderItem}
      before=${hasOlder.value ? html`<div class="turn older"><${Spinner} /></div>` : html`<div class="thread-top"></div>`}
      after=${html`<div class="thread-bottom"></div>`}
      onStart=${loadOlder} onEnd=${loadNewer} onAtEnd=${(end) => { atEnd.value = end; }} />
    ${(!atEnd.value || hasNewer.value) && html`<${IconButton} class="to-end" kind="" icon="arrow-down" label=${t("thread.to_end")} onClick=${() => {
      if (hasNewer.value) openChat(openId()).then(() => threadControl.current?.scrollToEnd());
      else threadControl.current?.scrollToEnd(true);
    }} />`}
  </div>`;
}

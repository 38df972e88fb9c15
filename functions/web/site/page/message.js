/** One message of a chat, with what can be done with it. */
import { Button, Icon, IconButton, Menu, Spinner, confirm, copyText, html, toast, useEffect, useLayoutEffect, useRef, useSignal } from "../shared/ui.js";
import { call, config, request, showError } from "../shared/session.js";
import { formatBytes, t } from "../shared/text.js";
import { Markdown } from "../shared/markdown.js";
import { ask, liveOf } from "./live.js";
import { chat, go, ifMatch, messages, openId, refreshChat, takeChat, upsertChat } from "./state.js";

/** @typedef {import("./state.js").Message} Message */

/** @type {Map<string, {url: string, until: number}>} */
const addresses = new Map();

/** The address of an uploaded image. It works for some minutes, so it is asked for again then. @param {string} chatId @param {Message} message */
async function addressOf(chatId, message) {
  const key = `${chatId} ${message.content}`;
  const known = addresses.get(key);
  if (known && known.until > Date.now() + 60_000) return known.url;
  const found = await call("GET", `/chats/${chatId}/messages/${message.n}/upload`);
  addresses.set(key, { url: found.url, until: new Date(found.url_expires_at).getTime() });
  return found.url;
}

/** @param {{message: Message}} props */
function Picture({ message }) {
  const url = useSignal(message.preview ?? "");
  const failed = useSignal(false);
  const chatId = chat.value?.id ?? "";
  useEffect(() => {
    if (message.preview || !message.n || !message.content.startsWith("upload:")) return;
    addressOf(chatId, message).then((found) => { url.value = found; }, () => { failed.value = true; });
  }, [message.n, message.content, chatId]);
  const name = message.upload?.name ?? t("message.image");
  if (!message.content.startsWith("upload:") && !message.preview) {
    return html`<a class="file-chip" href=${/^https:\/\//.test(message.content) ? message.content : undefined} target="_blank" rel="noopener noreferrer"><${Icon} name="image" /><span class="clip">${message.content}</span></a>`;
  }
  if (failed.value) return html`<span class="file-chip"><${Icon} name="image" />${t("message.image_gone")}</span>`;
  const { width, height } = message.upload ?? {};
  return html`<a class="picture" href=${url.value || undefined} target="_blank" rel="noopener noreferrer" aria-label=${name}>
    ${url.value ? html`<img src=${url.value} alt=${name} width=${width} height=${height} onError=${() => { failed.value = true; }} />` : html`<${Spinner} />`}
  </a>`;
}

/** @param {{message: Message}} props */
function FileChip({ message }) {
  const upload = message.upload ?? {};
  return html`<span class="file-chip"><${Icon} name="file" /><span class="clip">${upload.name ?? t("message.document")}</span>
    ${upload.size && html`<span class="muted small">${formatBytes(upload.size)}</span>`}</span>`;
}

/** The branches that begin at a message. @param {{message: Message}} props */
function Siblings({ message }) {
  const busy = useSignal(false);
  if (!message.siblings || message.siblings.count < 2) return null;
  const { count, shown, branches } = message.siblings;
  const show = async (at) => {
    busy.value = true;
    try {
      const { headers, data } = await request("PUT", `/chats/${openId()}/branch`, { body: { branch: branches[at] }, headers: ifMatch() });
      takeChat(data, headers);
    } catch (error) {
      if (error.status === 412) await refreshChat({ force: true });
      else showError(error);
    } finally {
      busy.value = false;
    }
  };
  const locked = busy.value || Boolean(liveOf(chat.value?.id));
  return html`<span class="siblings" role="group" aria-label=${t("message.versions")}>
    <${IconButton} small icon="chevron-left" label=${t("message.version_before")} disabled=${locked || shown === 1} onClick=${() => show(shown - 2)} />
    <span class="number small muted">${shown} / ${count}</span>
    <${IconButton} small icon="chevron-right" label=${t("message.version_after")} disabled=${locked || shown === count} onClick=${() => show(shown)} />
  </span>`;
}

/** @param {{message: Message, onClose: () => void}} props */
function Editor({ message, onClose }) {
  const text = useSignal(message.content);
  const busy = useSignal(false);
  const ref = useRef(/** @type {HTMLTextAreaElement} */ (/** @type {any} */ (null)));
  useLayoutEffect(() => {
    ref.current.focus();
    ref.current.setSelectionRange(text.value.length, text.value.length);
  }, []);
  const askAgain = () => {
    const content = text.value.trim();
    if (!content) return;
    onClose();
    const question = { role: "user", type: "text", content };
    ask({ chat_id: openId(), branch_at: message.n, messages: [question] }, { kind: "branch", n: message.n, questions: [{ ...question, create_time: new Date().toISOString() }] });
  };
  const save = async () => {
    busy.value = true;
    try {
      await call("PUT", `/chats/${openId()}/messages/${message.n}`, { body: { content: text.value }, headers: ifMatch() });
      await refreshChat({ force: true });
      onClose();
    } catch (error) {
      showError(error);
      busy.value = false;
    }
  };
  const onKeyDown = (event) => {
    if (event.key === "Escape") { event.stopPropagation(); onClose(); }
    if (event.key === "Enter" && (event.metaKey || event.ctrlKey) && !event.isComposing) askAgain();
  };
  return html`<div class="editor">
    <textarea class="input" ref=${ref} aria-label=${t("message.edit_label")} value=${text.value} onInput=${(event) => { text.value = event.currentTarget.value; }} onKeyDown=${onKeyDown}></textarea>
    <div class="row wrap">
      <span class="muted small grow">${t("message.edit_hint")}</span>
      <${Button} small kind="plain" onClick=${onClose}>${t("ui.cancel")}<//>
      <${Button} small busy=${busy.value} disabled=${!text.value.trim()} onClick=${save}>${t("message.save_only")}<//>
      <${Button} small kind="primary" disabled=${!text.value.trim() || busy.value} onClick=${askAgain}>${t("message.ask_again")}<//>
    </div>
  </div>`;
}

/** @param {Message} message */
async function removeMessage(message) {
  if (!(await confirm({ title: t("message.delete_title"), text: t("message.delete_text"), action: t("message.delete") }))) return;
  try {
    const { headers, data } = await request("DELETE", `/chats/${openId()}/messages/${message.n}`, { headers: ifMatch() });
    takeChat(data, headers);
  } catch (error) {
    showError(error);
  }
}

/** Copy the chat up to a message, and go on there. @param {Message} message */
async function branchOff(message) {
  try {
    const made = await call("POST", `/chats/${openId()}/copy?upto=${message.n}`);
    upsertChat(made);
    go({ name: "chat", id: made.id });
    toast(t("message.branched"));
  } catch (error) {
    showError(error);
  }
}

/** @param {{message: Message, locked: boolean}} props */
export function Question({ message, locked }) {
  const editing = useSignal(false);
  if (message.type === "image") return html`<article class="message question"><${Picture} message=${message} /></article>`;
  if (message.type === "document") return html`<article class="message question"><${FileChip} message=${message} /></article>`;
  if (editing.value) return html`<article class="message question editing"><${Editor} message=${message} onClose=${() => { editing.value = false; }} /></article>`;
  return html`<article class="message question" aria-label=${t("message.yours")}>
    <div class="bubble">${message.content}</div>
    <div class=${`actions ${message.siblings ? "shown" : ""}`}>
      <${Siblings} message=${message} />
      <${IconButton} small icon="copy" label=${t("message.copy")} onClick=${() => copyText(message.content)} />
      ${message.n && html`<${IconButton} small icon="edit" label=${t("message.edit")} disabled=${locked} onClick=${() => { editing.value = true; }} />
        <${Menu} small label=${t("ui.more")} items=${[
          { label: t("message.branch_off"), icon: "copy", onSelect: () => branchOff(message) },
          { label: t("message.delete"), icon: "trash", danger: true, disabled: locked, onSelect: () => removeMessage(message) },
        ]} />`}
    </div>
  </article>`;
}

/** @param {{sources: any[]}} props */
export function Sources({ sources }) {
  if (!sources?.length) return null;
  return html`<div class="sources"><h4 class="hidden-text">${t("message.sources")}</h4><ol>
    ${sources.map((source) => html`<li key=${source.index}><a href=${/^https?:\/\//i.test(source.url) ? source.url : undefined} target="_blank" rel="noopener noreferrer nofollow">
      <span class="badge">${source.index}</span><span class="grow"><span class="clip title">${source.title}</span><span class="clip muted small">${source.site_name || source.url}</span></span></a></li>`)}
  </ol></div>`;
}

/** The reasoning of an answer, folded. @param {{text: string, running?: boolean, tokens?: number}} props */
export function Reasoning({ text, running = false, tokens }) {
  const open = useSignal(false);
  if (!text) return null;
  const label = running ? t("message.thinking") : tokens ? t("message.thought_tokens", { tokens }) : t("message.thought");
  return html`<details class=${`reasoning ${running ? "running" : ""}`} open=${open.value} onToggle=${(event) => { open.value = event.currentTarget.open; }}>
    <summary><${Icon} name="thought" /><span>${label}</span><${Icon} name="chevron-right" class="turning" /></summary>
    ${open.value && html`<div class="thoughts"><${Markdown} text=${text} ended=${!running} /></div>`}
  </details>`;
}

/** @param {Message} message @param {"up"|"down"|null} rating @param {any} [more] */
async function rate(message, rating, more = {}) {
  const path = `/chats/${openId()}/messages/${message.n}/feedback`;
  const stored = await call("PUT", path, { body: { rating, ...more } });
  messages.value = messages.value.map((one) => (one.n === message.n ? { ...one, feedback: stored.feedback } : one));
  if (chat.value) chat.value = { ...chat.value, version: stored.chat_version };
}

/** @param {Message} message @param {any} [options] {model} */
export function askAgain(message, options = {}) {
  ask({ chat_id: openId(), regenerate: message.task_id, ...options }, { kind: "again" });
}

/** @param {Message} message */
export function continueAnswer(message) {
  ask({ chat_id: openId(), continues: message.task_id }, { kind: "continue", prefix: { content: message.content, reasoning: message.reasoning ?? "" } });
}

/**
 * An answer: one that is stored, or one that is being made. It is one component, so that what was drawn stays at the end.
 * @param {{message?: Message, live?: import("./live.js").Live, isLast?: boolean, locked?: boolean}} props
 */
export function Answer({ message, live, isLast = false, locked = false }) {
  const prefix = live?.plan.prefix;
  const content = live ? (prefix?.content ?? "") + live.content.value : message?.content ?? "";
  const reasoning = live ? [prefix?.reasoning, live.reasoning.value].filter(Boolean).join("\n\n") : message?.reasoning ?? "";
  const thinks = Boolean(live?.reasoning.value) && !live?.content.value;
  return html`<article class=${`message answer ${live ? "live" : ""}`} aria-label=${t("message.answer")} aria-busy=${live ? "true" : undefined}>
    <${Reasoning} text=${reasoning} running=${thinks} tokens=${message?.usage?.reasoning_tokens} />
    <${Markdown} text=${content} ended=${!live} />
    <${Sources} sources=${(live ? live.sources.value : message?.sources) ?? []} />
    ${live ? html`<${Progress} live=${live} quiet=${Boolean(content) || thinks} />` : message && html`<${AnswerActions} message=${message} isLast=${isLast} locked=${locked} />`}
  </article>`;
}

/** What is to be said of an answer that is being made. @param {{live: import("./live.js").Live, quiet: boolean}} props */
function Progress({ live, quiet }) {
  return html`
    ${!quiet && html`<p class="waiting"><span class="dots" aria-hidden="true"><i></i><i></i><i></i></span><span class="hidden-text">${t(live.phase.value === "sending" ? "live.sending" : "live.waiting")}</span></p>`}
    ${live.lost.value && html`<p class="cut small" role="status"><${Icon} name="offline" /><span>${t("live.lost")}</span></p>`}
    <div class="actions" aria-hidden="true"></div>`;
}

/** How an answer ended, and what can be done with it. @param {{message: Message, isLast: boolean, locked: boolean}} props */
function AnswerActions({ message, isLast, locked }) {
  const rating = message.feedback?.rating;
  const rateIt = async (value) => {
    try {
      await rate(message, rating === value ? null : value, rating === value ? {} : { tags: [] });
      if (value === "down" && rating !== "down") import("./dialogs.js").then((module) => module.openFeedback((more) => rate(message, "down", more)), showError);
    } catch (error) {
      showError(error);
    }
  };
  const cut = isLast && ["length", "interrupted"].includes(message.finish_reason ?? "") && message.task_id;
  const others = (config.value?.models ?? []).filter((model) => model.status === "available" && model.model !== message.model).slice(0, 8);
  return html`
    ${message.finish_reason && message.finish_reason !== "stop" && html`<p class="cut small"><${Icon} name="info" /><span>${t(`finish.${message.finish_reason}`)}</span>
      ${cut && html`<${Button} small icon="forward" disabled=${locked} onClick=${() => continueAnswer(message)}>${t("message.continue")}<//>`}</p>`}
    <div class=${`actions ${isLast || message.siblings ? "shown" : ""}`}>
      <${Siblings} message=${message} />
      <${IconButton} small icon="copy" label=${t("message.copy")} onClick=${() => copyText(message.content)} />
      ${message.task_id && html`
        <${IconButton} small icon="up" label=${t("message.rate_up")} aria-pressed=${String(rating === "up")} onClick=${() => rateIt("up")} />
        <${IconButton} small icon="down" label=${t("message.rate_down")} aria-pressed=${String(rating === "down")} onClick=${() => rateIt("down")} />`}
      ${isLast && message.task_id && html`<${IconButton} small icon="again" label=${t("message.regenerate")} disabled=${locked} onClick=${() => askAgain(message)} />`}
      <${Menu} small label=${t("ui.more")} items=${[
        ...(isLast && message.task_id ? others.map((model) => ({ label: t("message.with_model", { model: model.model }), icon: "again", disabled: locked, onSelect: () => askAgain(message, { model: model.model }) })) : []),
        isLast && message.task_id && others.length ? "line" : null,
        { label: t("message.branch_off"), icon: "copy", onSelect: () => branchOff(message) },
        { label: t("message.delete"), icon: "trash", danger: true, disabled: locked, onSelect: () => removeMessage(message) },
      ]} />
      <span class="details muted number">${[message.model, message.usage && t("message.tokens", { tokens: message.usage.output_tokens }), message.credits !== null && message.credits !== undefined && t("message.credits", { credits: message.credits })].filter(Boolean).join(" · ")}</span>
    </div>`;
}

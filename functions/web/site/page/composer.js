/** The field for a question, with its files, and the line with the credits. */
import { Button, Icon, IconButton, Menu, Spinner, announce, batch, html, toast, useEffect, useLayoutEffect, useRef, useSignal } from "../shared/ui.js";
import { ApiError, call, config, explain, showError, user } from "../shared/session.js";
import { formatBytes, t } from "../shared/text.js";
import { attachments, drafts } from "./drafts.js";
import { ask, bill, liveOf, returned, stop } from "./live.js";
import { changeChat, chat, chatError, chatReady, chosenPreset, currentPreset, findModel, hasNewer, openChat, presets, route } from "./state.js";
import { threadControl } from "./thread.js";

/** @typedef {import("./drafts.js").Attachment} Attachment */

let lastKey = 0;

/** Upload files, and attach them to the next question. @param {Iterable<File>} files */
export async function attach(files) {
  const limits = config.value?.limits;
  for (const file of files) {
    const type = file.type || (/\.(md|markdown)$/i.test(file.name) ? "text/markdown" : /\.txt$/i.test(file.name) ? "text/plain" : "");
    const image = type.startsWith("image/");
    /** @type {Attachment} */
    const one = { key: ++lastKey, name: file.name || "image", size: file.size, kind: image ? "image" : "document", state: "sending", problem: "", preview: image ? URL.createObjectURL(file) : undefined };
    const change = (changes) => { attachments.value = attachments.value.map((other) => (other.key === one.key ? Object.assign({}, other, changes) : other)); };
    attachments.value = [...attachments.value, one];
    const problem = !limits?.upload_types.includes(type) ? t("files.wrong_type") : file.size > limits.upload_bytes ? t("files.too_large", { size: formatBytes(limits.upload_bytes) }) : "";
    if (problem) {
      change({ state: "failed", problem });
      continue;
    }
    upload(file, type).then((stored) => change({ state: "ready", ...stored }), (error) => change({ state: "failed", problem: explain(error) }));
  }
}

/** @param {File} file @param {string} type */
async function upload(file, type) {
  const announced = await call("POST", "/uploads", { body: { name: (file.name || "image").slice(0, 255), type, size: file.size } });
  const form = new FormData();
  for (const [name, value] of Object.entries(announced.post.fields)) form.append(name, /** @type {string} */ (value));
  form.append("file", file);
  const posted = await fetch(announced.post.url, { method: "POST", body: form });
  if (!posted.ok) throw new ApiError(posted.status, "upload_failed", t("files.failed"));
  const stored = await call("POST", `/uploads/${announced.id}/complete`);
  return { id: stored.id, content: stored.content, kind: stored.kind, tokens: stored.tokens, upload: { name: stored.name, size: stored.size, width: stored.width, height: stored.height } };
}

/** @param {Attachment} one */
function detach(one) {
  attachments.value = attachments.value.filter((other) => other.key !== one.key);
  if (one.id) call("DELETE", `/uploads/${one.id}`).catch(() => {});
}

/** @param {{one: Attachment}} props */
function AttachmentChip({ one }) {
  return html`<li class=${`attachment ${one.state}`}>
    ${one.preview ? html`<img src=${one.preview} alt="" />` : html`<${Icon} name="file" />`}
    <span class="grow"><span class="clip name">${one.name}</span><span class="muted small clip">${one.state === "failed" ? one.problem : one.state === "sending" ? t("files.sending") : one.tokens ? t("files.tokens", { tokens: one.tokens }) : formatBytes(one.size)}</span></span>
    ${one.state === "sending" && html`<${Spinner} />`}
    <${IconButton} small icon="close" label=${t("files.remove", { name: one.name })} onClick=${() => detach(one)} />
  </li>`;
}

/** The preset of the next question. */
function PresetPicker() {
  const preset = currentPreset();
  const own = (presets.value ?? []).slice(0, 12);
  const choose = async (id) => {
    try {
      if (chat.value) await changeChat(chat.value.id, { preset_id: id });
      else chosenPreset.value = id;
    } catch (error) {
      showError(error);
    }
  };
  const items = [
    ...own.map((one) => ({ label: one.title, hint: one.parameters?.model, checked: one.id === preset?.id, onSelect: () => choose(one.id) })),
    own.length ? "line" : null,
    { label: t("presets.all"), icon: "grid", onSelect: () => import("./presets.js").then((module) => module.openPresets()) },
  ];
  return html`<${Menu} small label=${t("composer.preset")} items=${items} class="preset-picker" aria-label=${`${t("composer.preset")}: ${preset?.title ?? ""}`}><${Icon} name="sparkle" /><span class="clip">${preset?.title ?? t("composer.choose_preset")}</span><${Icon} name="chevron-down" class="small-icon" /><//>`;
}

/** What the last answer holds and costs, and what is left. */
function LiveLine() {
  const live = liveOf(chat.value?.id ?? null);
  const now = bill.value;
  const left = user.value?.credits_left;
  let text = "";
  if (now?.state === "held" && live) text = t("credits.line_held", { held: now.held });
  else if (now?.state === "spent") text = t("credits.line_spent", { spent: now.spent, returned: Math.max(0, now.held - now.spent) });
  return html`<p class="live-line small muted number" data-testid="live-line">
    <button type="button" class="credits-link" onClick=${() => import("./dialogs.js").then((module) => module.openCredits())}><${Icon} name="coin" />${t("credits.left", { credits: left ?? 0 })}</button>
    ${text && html`<span>${text}</span>`}
  </p>`;
}

export function Composer() {
  const text = useSignal("");
  const field = useRef(/** @type {HTMLTextAreaElement} */ (/** @type {any} */ (null)));
  const picker = useRef(/** @type {HTMLInputElement} */ (/** @type {any} */ (null)));
  const dragging = useSignal(false);
  const sending = useRef(false);
  const place = chat.value?.id ?? (route.value.name === "chat" ? route.value.id : "new");
  const live = liveOf(chat.value?.id ?? null);
  const running = Boolean(live && live.phase.value !== "failed");

  // Each chat has a draft of its own.
  useLayoutEffect(() => {
    text.value = drafts.get(place) ?? "";
    if (matchMedia("(pointer: fine)").matches) field.current.focus({ preventScroll: true });
  }, [place]);
  useLayoutEffect(() => {
    // Where the browser does not grow the field by itself (field-sizing).
    const box = field.current;
    if (CSS.supports("field-sizing", "content")) return;
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight, 240)}px`;
  }, [text.value, place]);
  // A refused question comes back.
  useEffect(() => {
    const back = returned.value;
    if (!back || (back.chatId ?? "new") !== place) return;
    returned.value = null;
    const words = back.messages.find((one) => one.type === "text");
    if (words && !text.value) write(words.content);
    const files = back.messages.filter((one) => one.type !== "text" && one.attachment).map((one) => one.attachment);
    if (files.length) attachments.value = [...files, ...attachments.value];
  }, [returned.value, place]);

  const write = (value) => {
    text.value = value;
    drafts.set(place, value);
  };
  const waits = attachments.value.some((one) => one.state === "sending");
  const canSend = !running && !waits && (text.value.trim() !== "" || attachments.value.some((one) => one.state === "ready"));

  const send = async () => {
    if (!canSend || sending.current) return;
    if (route.value.name === "chat" && chat.value?.id !== route.value.id) {
      sending.current = true;
      await chatReady();
      sending.current = false;
      if (chatError.value) return;
    }
    const preset = currentPreset();
    if (!chat.value && !preset) {
      toast(t("composer.choose_preset"));
      return;
    }
    const files = attachments.value.filter((one) => one.state === "ready");
    if (files.some((one) => one.kind === "image") && preset && findModel(preset.parameters?.model)?.vision === false) {
      announce(t("error.model_without_vision"));
      toast(t("error.model_without_vision"), { action: { label: t("presets.all"), run: () => import("./presets.js").then((module) => module.openPresets()) } });
      return;
    }
    const words = text.value.trim();
    const now = new Date().toISOString();
    const asked = [
      ...files.map((one) => ({ role: "user", type: one.kind, content: one.content })),
      ...(words ? [{ role: "user", type: "text", content: words }] : []),
    ];
    const questions = asked.map((one, at) => ({ ...one, create_time: now, ...(files[at] ? { preview: files[at].preview, upload: files[at].upload, attachment: files[at] } : {}) }));
    batch(() => {
      write("");
      attachments.value = [];
    });
    if (hasNewer.value && chat.value) await openChat(chat.value.id);
    const body = chat.value ? { chat_id: chat.value.id, messages: asked } : { chat: { preset_id: preset.id, auto_title: true }, messages: asked };
    threadControl.current?.scrollToEnd();
    ask(body, { kind: "ask", questions });
  };
  const onKeyDown = (event) => {
    // While an input method composes, Enter chooses a candidate (229: Safari reports the end of the composition first).
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    if (matchMedia("(pointer: coarse)").matches && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    send();
  };
  const onPaste = (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    attach(files);
  };
  const drop = (event) => {
    event.preventDefault();
    dragging.value = false;
    attach([...(event.dataTransfer?.files ?? [])]);
  };
  const visitor = user.value?.permission === 0;
  return html`<div class="composer-frame">
    <form class=${`composer ${dragging.value ? "dragging" : ""}`} onSubmit=${(event) => { event.preventDefault(); send(); }}
      onDragOver=${(event) => { event.preventDefault(); dragging.value = true; }} onDragLeave=${() => { dragging.value = false; }} onDrop=${drop}>
      ${attachments.value.length > 0 && html`<ul class="attachments" aria-label=${t("files.label")}>${attachments.value.map((one) => html`<${AttachmentChip} key=${one.key} one=${one} />`)}</ul>`}
      <textarea ref=${field} class="question-field" rows="1" aria-label=${t("composer.label")} placeholder=${visitor ? t("composer.visitor") : t("composer.placeholder")} disabled=${visitor}
        value=${text.value} onInput=${(event) => write(event.currentTarget.value)} onKeyDown=${onKeyDown} onPaste=${onPaste}></textarea>
      <div class="composer-bar">
        <input ref=${picker} type="file" multiple hidden aria-hidden="true" tabindex="-1" accept=${(config.value?.limits.upload_types ?? []).join(",")} onChange=${(event) => { attach([...event.currentTarget.files]); event.currentTarget.value = ""; }} />
        <${IconButton} small icon="clip" label=${t("files.add")} onClick=${() => picker.current.click()} />
        <${PresetPicker} />
        <span class="grow"></span>
        ${running && live
          ? html`<${Button} small class="stop" icon="stop" busy=${live.phase.value === "stopping"} onClick=${() => stop(live).catch(showError)}>${t("composer.stop")}<//>`
          : html`<button type="submit" class="button primary icon-only send" aria-label=${t("composer.send")} title=${t("composer.send")} disabled=${!canSend}><${Icon} name="send" /></button>`}
      </div>
    </form>
    <${LiveLine} />
  </div>`;
}


/** Dialogs that are loaded when they are needed: search, credits, settings, share links, titles, tags and feedback. */
import { Button, Check, Dialog, Empty, Field, Icon, IconButton, Notice, Segments, Spinner, confirm, copyText, html, openDialog, toast, useEffect, useLayoutEffect, useRef, useSignal } from "../shared/ui.js";
import { api, call, config, explain, loadUser, readPage, request, showError, signOut, user } from "../shared/session.js";
import { formatFullTime, formatNumber, formatTime, has, languageSetting, t } from "../shared/text.js";
import { changeSettings, theme } from "./settings.js";
import { Avatar, titleOf } from "./sidebar.js";
import { changeChat, chats, go, loadChats, pinned, sidebarOpen, tell } from "./state.js";

// Search

export function openSearch() {
  openDialog((close) => html`<${SearchDialog} onClose=${close} />`);
}

/** The text with its words marked. @param {{text: string, words: string[]}} props */
function Marked({ text, words }) {
  const wanted = words.filter(Boolean).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  if (!wanted.length) return text;
  return text.split(new RegExp(`(${wanted.join("|")})`, "gi")).map((part, at) => (at % 2 ? html`<mark key=${at}>${part}</mark>` : part));
}

/** @param {{onClose: () => void}} props */
function SearchDialog({ onClose }) {
  const text = useSignal("");
  const hits = useSignal(/** @type {any[]|null} */ (null));
  const cursor = useSignal(/** @type {string|null} */ (null));
  const at = useSignal(0);
  const busy = useSignal(false);
  const problem = useSignal("");
  const turn = useRef(0);
  const field = useRef(/** @type {HTMLInputElement} */ (/** @type {any} */ (null)));
  const query = text.value.trim();
  const words = query.split(/\s+/);

  const read = async (more) => {
    const own = ++turn.current;
    busy.value = true;
    problem.value = "";
    try {
      let page = await readPage(`/search?limit=20&q=${encodeURIComponent(query)}`, more ? cursor.value : null);
      let items = more ? [...(hits.value ?? []), ...page.items] : page.items;
      // A page may be empty although more follow.
      for (let tries = 0; !items.length && page.cursor && tries < 5; tries++) {
        page = await readPage(`/search?limit=20&q=${encodeURIComponent(query)}`, page.cursor);
        items = page.items;
      }
      if (own !== turn.current) return;
      hits.value = items;
      cursor.value = page.cursor;
      if (!more) at.value = 0;
    } catch (error) {
      if (own === turn.current) problem.value = explain(error);
    } finally {
      if (own === turn.current) busy.value = false;
    }
  };
  useEffect(() => {
    turn.current += 1;
    if (!query) {
      hits.value = null;
      busy.value = false;
      return undefined;
    }
    const timer = setTimeout(() => read(false), 250);
    return () => clearTimeout(timer);
  }, [query]);
  useLayoutEffect(() => field.current.focus(), []);

  const recent = chats.value.slice(0, 8).map((chat) => ({ chat_id: chat.id, title: titleOf(chat), snippet: chat.last_message ?? "", update_time: chat.update_time }));
  const shown = query ? hits.value ?? [] : recent;
  const open = (hit) => {
    onClose();
    if (!matchMedia("(min-width: 860px)").matches) sidebarOpen.value = false;
    go({ name: "chat", id: hit.chat_id, n: hit.n ?? undefined });
  };
  const onKeyDown = (event) => {
    if (event.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      at.value = Math.max(0, Math.min(shown.length - 1, at.value + step));
      document.getElementById(`hit-${at.value}`)?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter" && shown[at.value]) {
      event.preventDefault();
      open(shown[at.value]);
    }
  };
  return html`<${Dialog} title=${t("search.title")} class="search" onClose=${onClose}>
    <div class="search-field"><${Icon} name="search" />
      <input ref=${field} type="text" inputmode="search" enterkeyhint="search" autocomplete="off" role="combobox" aria-expanded="true" aria-controls="hits" aria-activedescendant=${shown.length ? `hit-${at.value}` : undefined} aria-label=${t("search.label")} placeholder=${t("search.placeholder")} maxlength="100"
        value=${text.value} onInput=${(event) => { text.value = event.currentTarget.value; at.value = 0; }} onKeyDown=${onKeyDown} />
      ${busy.value && html`<${Spinner} />`}
    </div>
    ${problem.value && html`<p class="hits"><${Notice} kind="warning">${problem.value}<//></p>`}
    ${!query && recent.length > 0 && html`<p class="list-head">${t("search.recent")}</p>`}
    <div class="hits" id="hits" role="listbox" aria-label=${t("search.hits")}>
      ${shown.map((hit, index) => html`<div key=${`${hit.chat_id} ${hit.n ?? ""}`} id=${`hit-${index}`} class="hit" role="option" aria-selected=${String(index === at.value)} onClick=${() => open(hit)} onPointerMove=${() => { at.value = index; }}>
        <span class="row"><strong class="clip grow"><${Marked} text=${hit.title || t("chat.untitled")} words=${words} /></strong>${hit.archived && html`<span class="badge">${t("sidebar.archived")}</span>`}<span class="muted small">${formatTime(hit.update_time)}</span></span>
        <span class="muted small clip">${hit.role === "user" ? `${t("message.you")}: ` : ""}<${Marked} text=${hit.snippet} words=${words} /></span></div>`)}
    </div>
    ${query && hits.value?.length === 0 && !busy.value && html`<${Empty} icon="search" title=${t("search.none")}><p>${t("search.none_text")}</p><//>`}
    ${query && cursor.value && html`<p class="row center"><${Button} small busy=${busy.value} onClick=${() => read(true)}>${t("ui.show_more")}<//></p>`}
    ${hits.value && query && html`<p class="hidden-text" role="status">${t("search.count", { n: hits.value.length })}</p>`}
  <//>`;
}

// Credits

export function openCredits() {
  openDialog((close) => html`<${CreditsDialog} onClose=${close} />`);
}

/** @param {any} line of the ledger */
const describe = (line) => (has(`ledger.${line.kind}`) ? t(`ledger.${line.kind}`) : line.description);

/** @param {{onClose: () => void}} props */
function CreditsDialog({ onClose }) {
  const tab = useSignal("ledger");
  const code = useSignal("");
  const key = useRef("");
  const busy = useSignal(false);
  const problem = useSignal("");
  const lines = useSignal(/** @type {any[]|null} */ (null));
  const cursor = useSignal(/** @type {string|null} */ (null));
  const usage = useSignal(/** @type {any} */ (null));
  const read = async (more = false) => {
    try {
      const { headers, data } = await request("GET", `/users/me/credits?limit=20${more ? `&cursor=${encodeURIComponent(cursor.value ?? "")}` : ""}`);
      lines.value = more ? [...(lines.value ?? []), ...data.credit_records] : data.credit_records;
      cursor.value = headers.get("X-Next-Cursor");
      if (user.value) user.value = { ...user.value, credits_left: data.credits_left, credits_held: data.credits_held };
    } catch (error) {
      showError(error);
    }
  };
  useEffect(() => { read(); }, []);
  useEffect(() => {
    if (tab.value === "usage" && !usage.value) call("GET", `/users/me/usage?utc_offset=${-new Date().getTimezoneOffset()}`).then((found) => { usage.value = found; }, showError);
  }, [tab.value]);
  const redeem = async (event) => {
    event.preventDefault();
    busy.value = true;
    problem.value = "";
    key.current ||= crypto.randomUUID();
    try {
      const done = await call("POST", "/users/me/credits", { body: { redeem_code: code.value.trim() }, headers: { "Idempotency-Key": key.current } });
      toast(t("credits.redeemed", { value: done.value }));
      code.value = "";
      key.current = "";
      tell({ kind: "user" });
      await read();
    } catch (error) {
      problem.value = explain(error);
      if (error.status) key.current = "";
    } finally {
      busy.value = false;
    }
  };
  const me = user.value;
  return html`<${Dialog} title=${t("credits.title")} onClose=${onClose}>
    <div class="stack">
      <div><p class="big-number number">${formatNumber(me?.credits_left ?? 0)}</p>
        <p class="muted">${me?.credits_held ? t("credits.left_and_held", { held: me.credits_held }) : t("credits.left_text")}</p></div>
      <form onSubmit=${redeem}>
        <${Field} label=${t("credits.code")} hint=${t("credits.code_hint")} problem=${problem.value}>${(attributes) => html`<div class="share-link">
          <input ...${attributes} autocomplete="off" autocapitalize="characters" spellcheck=${false} required maxlength="64" pattern="[A-Za-z0-9\\-]+" value=${code.value} onInput=${(event) => { code.value = event.currentTarget.value; key.current = ""; problem.value = ""; }} />
          <${Button} type="submit" kind="primary" busy=${busy.value} disabled=${!code.value.trim()}>${t("credits.redeem")}<//></div>`}<//>
      </form>
      <${Segments} label=${t("credits.view")} value=${tab.value} onChange=${(value) => { tab.value = value; }} options=${[{ value: "ledger", label: t("credits.ledger") }, { value: "usage", label: t("credits.usage") }]} />
      ${tab.value === "ledger" ? html`
        ${!lines.value ? html`<${Spinner} />` : lines.value.length ? html`<ul class="ledger">${lines.value.map((line) => html`<li key=${line.id}>
            <span class="grow"><span class="clip">${describe(line)}</span><br /><span class="muted small">${[formatFullTime(line.create_time), line.model, line.output_tokens !== null && line.output_tokens !== undefined && t("credits.tokens", { input: line.input_tokens ?? 0, output: line.output_tokens })].filter(Boolean).join(" · ")}</span></span>
            <span class=${`amount ${line.amount > 0 ? "plus" : ""}`}>${line.amount > 0 ? "+" : line.amount < 0 ? "−" : ""}${formatNumber(Math.abs(line.amount))}</span></li>`)}</ul>` : html`<${Empty} icon="coin" title=${t("credits.none")}><p>${t("credits.none_text")}</p><//>`}
        ${cursor.value && html`<${Button} small onClick=${() => read(true)}>${t("ui.show_more")}<//>`}` : html`<${Usage} usage=${usage.value} />`}
    </div>
  <//>`;
}

/** What was spent in 30 days. @param {{usage: any}} props */
function Usage({ usage }) {
  if (!usage) return html`<${Spinner} />`;
  const byDay = new Map();
  for (const day of usage.days) byDay.set(day.day, (byDay.get(day.day) ?? 0) + day.credits);
  const days = [];
  for (let day = new Date(`${usage.from}T00:00:00Z`); days.length < 92 && day.toISOString().slice(0, 10) <= usage.to; day = new Date(day.getTime() + 86_400_000)) days.push(day.toISOString().slice(0, 10));
  const most = Math.max(1, ...byDay.values());
  const models = new Map();
  for (const day of usage.days) for (const model of day.models) {
    const sum = models.get(model.model) ?? { credits: 0, answers: 0, output: 0 };
    models.set(model.model, { credits: sum.credits + model.credits, answers: sum.answers + model.answers, output: sum.output + model.output_tokens });
  }
  const total = [...byDay.values()].reduce((sum, credits) => sum + credits, 0);
  return html`<div class="stack">
    <p>${t("credits.usage_total", { credits: total, days: days.length })}</p>
    <div class="usage-bars" role="img" aria-label=${t("credits.usage_total", { credits: total, days: days.length })}>
      ${days.map((day) => html`<i key=${day} class=${byDay.get(day) ? "" : "none"} title=${`${day}: ${formatNumber(byDay.get(day) ?? 0)}`} style=${{ height: `${((byDay.get(day) ?? 0) / most) * 100}%` }}></i>`)}
    </div>
    ${models.size > 0 && html`<div class="table-frame" tabindex="0"><table class="table"><thead><tr><th>${t("credits.model")}</th><th class="number">${t("credits.answers")}</th><th class="number">${t("credits.output")}</th><th class="number">${t("credits.spent")}</th></tr></thead>
      <tbody>${[...models].sort((a, b) => b[1].credits - a[1].credits).map(([name, sum]) => html`<tr key=${name}><td>${name}</td><td class="number">${formatNumber(sum.answers)}</td><td class="number">${formatNumber(sum.output)}</td><td class="number">${formatNumber(sum.credits)}</td></tr>`)}</tbody></table></div>`}
  </div>`;
}

// Settings

export function openSettings() {
  openDialog((close) => html`<${SettingsDialog} onClose=${close} />`);
}

/** @param {{onClose: () => void}} props */
function SettingsDialog({ onClose }) {
  const me = user.value;
  const change = (changes) => changeSettings(changes).catch(showError);
  return html`<${Dialog} title=${t("settings.title")} onClose=${onClose}>
    <section class="settings-section">
      <div class="setting"><span>${t("settings.theme")}</span><${Segments} label=${t("settings.theme")} value=${theme.value} onChange=${(value) => change({ theme: value })}
        options=${[{ value: "auto", label: t("settings.auto") }, { value: "light", label: t("settings.light"), icon: "sun" }, { value: "dark", label: t("settings.dark"), icon: "moon" }]} /></div>
      <div class="setting"><span>${t("settings.language")}</span><${Segments} label=${t("settings.language")} value=${languageSetting.value} onChange=${(value) => change({ language: value })}
        options=${[{ value: "auto", label: t("settings.auto") }, { value: "en", label: "English" }, { value: "zh", label: "中文" }]} /></div>
    </section>
    <${Profile} me=${me} />
    <${Password} me=${me} />
    <${Devices} />
    <section class="settings-section">
      <h3>${t("settings.data")}</h3>
      <div class="setting"><span>${t("settings.delete_chats")}</span><${Button} small kind="danger" onClick=${deleteAllChats}>${t("settings.delete_all")}<//></div>
      <div class="setting"><span>${t("settings.delete_account")}</span><${Button} small kind="danger" onClick=${() => openDialog((close) => html`<${DeleteAccount} onClose=${close} />`)}>${t("settings.delete_account_action")}<//></div>
      <p class="muted small">AIDeer ${config.value?.version} · <a href="/docs" target="_blank" rel="noopener">${t("settings.api")}</a></p>
    </section>
  <//>`;
}

/** @param {{me: any}} props */
function Profile({ me }) {
  const nickname = useSignal(me?.nickname ?? "");
  const busy = useSignal("");
  const picker = useRef(/** @type {HTMLInputElement} */ (/** @type {any} */ (null)));
  const run = async (what, work) => {
    busy.value = what;
    try {
      user.value = await work();
      tell({ kind: "user" });
      toast(t("settings.saved"), { seconds: 3 });
    } catch (error) {
      showError(error);
    } finally {
      busy.value = "";
    }
  };
  const save = (event) => {
    event.preventDefault();
    run("name", () => call("PUT", "/users/me", { body: { nickname: nickname.value.trim() } }));
  };
  const sendPicture = (file) => {
    if (!file) return;
    const form = new FormData();
    form.append("avatar_file", file);
    run("picture", () => call("POST", "/users/me/avatar", { body: form }));
  };
  return html`<section class="settings-section">
    <h3>${t("settings.profile")}</h3>
    <div class="row wrap"><${Avatar} size=${48} />
      <input ref=${picker} type="file" hidden accept="image/*" aria-hidden="true" tabindex="-1" onChange=${(event) => sendPicture(event.currentTarget.files[0])} />
      <${Button} small busy=${busy.value === "picture"} onClick=${() => picker.current.click()}>${t("settings.picture")}<//>
      ${me?.username && html`<span class="muted small clip">${t("settings.signed_in_as", { name: me.username })}</span>`}</div>
    <form onSubmit=${save}><${Field} label=${t("settings.nickname")}>${(attributes) => html`<div class="share-link"><input ...${attributes} required maxlength="50" value=${nickname.value} onInput=${(event) => { nickname.value = event.currentTarget.value; }} />
      <${Button} type="submit" busy=${busy.value === "name"} disabled=${nickname.value.trim() === me?.nickname || !nickname.value.trim()}>${t("ui.save")}<//></div>`}<//></form>
  </section>`;
}

/** @param {{me: any}} props */
function Password({ me }) {
  const open = useSignal(false);
  const old = useSignal("");
  const next = useSignal("");
  const busy = useSignal(false);
  const problem = useSignal("");
  if (!me?.username) return null;
  const save = async (event) => {
    event.preventDefault();
    busy.value = true;
    problem.value = "";
    try {
      await call("PUT", "/users/me/password", { body: { old_password: old.value, new_password: next.value } });
      // All sessions have ended. This device signs in again.
      await api.signIn(me.username, next.value);
      await loadUser();
      toast(t("settings.password_changed"));
      open.value = false;
      old.value = "";
      next.value = "";
    } catch (error) {
      problem.value = explain(error);
    } finally {
      busy.value = false;
    }
  };
  return html`<section class="settings-section">
    <div class="setting"><span>${t("settings.password")}</span><${Button} small aria-expanded=${String(open.value)} onClick=${() => { open.value = !open.value; }}>${t("settings.change")}<//></div>
    ${open.value && html`<form class="stack" onSubmit=${save}>
      <input type="text" name="username" autocomplete="username" value=${me.username} hidden readonly />
      <${Field} label=${t("settings.old_password")}>${(attributes) => html`<input ...${attributes} type="password" autocomplete="current-password" required value=${old.value} onInput=${(event) => { old.value = event.currentTarget.value; }} />`}<//>
      <${Field} label=${t("settings.new_password")} hint=${t("settings.password_text")} problem=${problem.value}>${(attributes) => html`<input ...${attributes} type="password" autocomplete="new-password" required minlength=${config.value?.limits.password_characters.least} value=${next.value} onInput=${(event) => { next.value = event.currentTarget.value; }} />`}<//>
      <div class="row end"><${Button} type="submit" kind="primary" busy=${busy.value}>${t("settings.change_password")}<//></div>
    </form>`}
  </section>`;
}

function Devices() {
  const sessions = useSignal(/** @type {any[]|null} */ (null));
  const read = () => call("GET", "/users/me/sessions").then((found) => { sessions.value = found; }, showError);
  useEffect(() => { read(); }, []);
  const end = async (path) => {
    try {
      await call("DELETE", path);
      await read();
    } catch (error) {
      showError(error);
    }
  };
  return html`<section class="settings-section">
    <div class="setting"><h3>${t("settings.devices")}</h3>${(sessions.value?.length ?? 0) > 1 && html`<${Button} small onClick=${() => end("/users/me/sessions?others=true")}>${t("settings.end_others")}<//>`}</div>
    ${!sessions.value ? html`<${Spinner} />` : html`<ul class="devices">${sessions.value.map((session) => html`<li key=${session.id}><${Icon} name="device" />
      <span class="grow"><span class="clip">${session.device ?? t("settings.unknown_device")}</span><br /><span class="muted small">${t("settings.last_used", { time: formatTime(session.last_used_time) })}</span></span>
      ${session.current ? html`<span class="badge accent">${t("settings.this_device")}</span>` : html`<${Button} small onClick=${() => end(`/users/me/sessions/${session.id}`)}>${t("settings.end_session")}<//>`}</li>`)}</ul>`}
    <div class="row"><${Button} small icon="leave" onClick=${() => signOut().catch(showError)}>${t("session.out")}<//></div>
  </section>`;
}

async function deleteAllChats() {
  if (!(await confirm({ title: t("settings.delete_chats_title"), text: t("settings.delete_chats_text"), action: t("settings.delete_all") }))) return;
  try {
    await call("DELETE", "/chats?confirm=all");
    go({ name: "new" });
    toast(t("settings.deleting"));
    tell({ kind: "list" });
    for (const seconds of [0, 2, 4, 8]) {
      await new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });
      await loadChats();
      if (!chats.value.length) break;
    }
  } catch (error) {
    showError(error);
  }
}

/** @param {{onClose: () => void}} props */
function DeleteAccount({ onClose }) {
  const password = useSignal("");
  const problem = useSignal("");
  const busy = useSignal(false);
  const remove = async (event) => {
    event.preventDefault();
    busy.value = true;
    try {
      await call("DELETE", "/users/me", { body: password.value ? { current_password: password.value } : undefined });
      onClose();
      await signOut();
    } catch (error) {
      problem.value = explain(error);
      busy.value = false;
    }
  };
  return html`<${Dialog} title=${t("settings.delete_account")} onClose=${onClose}>
    <form class="stack" onSubmit=${remove}>
      <p>${t("settings.delete_account_text")}</p>
      <${Field} label=${t("session.password")} hint=${t("settings.delete_account_hint")} problem=${problem.value}>${(attributes) => html`<input ...${attributes} type="password" autocomplete="current-password" value=${password.value} onInput=${(event) => { password.value = event.currentTarget.value; }} />`}<//>
      <div class="row end"><${Button} onClick=${onClose}>${t("ui.cancel")}<//><${Button} type="submit" kind="danger" busy=${busy.value}>${t("settings.delete_account_action")}<//></div>
    </form><//>`;
}

// Share links

/** @param {import("./state.js").Chat} chat */
export function openShare(chat) {
  openDialog((close) => html`<${ShareDialog} chat=${chat} onClose=${close} />`);
}

const LASTS = [{ value: 86_400, key: "day" }, { value: 7 * 86_400, key: "week" }, { value: 30 * 86_400, key: "month" }, { value: 365 * 86_400, key: "year" }];

/** @param {{chat: import("./state.js").Chat, onClose: () => void}} props */
function ShareDialog({ chat, onClose }) {
  const links = useSignal(/** @type {any[]|null} */ (null));
  const made = useSignal(/** @type {any} */ (null));
  const lasts = useSignal(LASTS[2].value);
  const options = useSignal({ reasoning: false, nickname: false, preset: false });
  const busy = useSignal(false);
  const problem = useSignal("");
  const read = () => call("GET", `/chats/${chat.id}/shares`).then((found) => { links.value = found; }, (error) => { problem.value = explain(error); });
  useEffect(() => { read(); }, []);
  const make = async (event) => {
    event.preventDefault();
    busy.value = true;
    problem.value = "";
    try {
      made.value = await call("POST", `/chats/${chat.id}/shares`, { body: { expires_in: lasts.value, ...options.value }, headers: { "Idempotency-Key": crypto.randomUUID() } });
      await read();
    } catch (error) {
      problem.value = explain(error);
    } finally {
      busy.value = false;
    }
  };
  const revoke = async (link) => {
    try {
      await call("DELETE", `/chats/${chat.id}/shares/${link.id}`);
      if (made.value?.id === link.id) made.value = null;
      await read();
      toast(t("share.revoked"));
    } catch (error) {
      showError(error);
    }
  };
  const set = (name) => (checked) => { options.value = { ...options.value, [name]: checked }; };
  return html`<${Dialog} title=${t("share.title")} onClose=${onClose}>
    <div class="stack">
      <p class="muted">${t("share.text")}</p>
      ${problem.value && html`<${Notice} kind="warning">${problem.value}<//>`}
      ${made.value ? html`<div class="stack tight"><div class="share-link"><input class="input" readonly aria-label=${t("share.link")} value=${made.value.url} onFocus=${(event) => event.currentTarget.select()} /><${Button} kind="primary" icon="copy" onClick=${() => copyText(made.value.url)}>${t("message.copy")}<//></div>
          <p class="muted small">${t("share.once", { time: formatFullTime(made.value.expires_at) })}</p></div>`
        : html`<form class="stack" onSubmit=${make}>
          <${Field} label=${t("share.lasts")}>${(attributes) => html`<select ...${attributes} value=${lasts.value} onChange=${(event) => { lasts.value = Number(event.currentTarget.value); }}>${LASTS.map((one) => html`<option key=${one.value} value=${one.value}>${t(`share.${one.key}`)}</option>`)}</select>`}<//>
          <${Check} label=${t("share.with_nickname")} checked=${options.value.nickname} onChange=${set("nickname")} />
          <${Check} label=${t("share.with_preset")} checked=${options.value.preset} onChange=${set("preset")} />
          <${Check} label=${t("share.with_reasoning")} checked=${options.value.reasoning} onChange=${set("reasoning")} />
          <div class="row"><${Button} type="submit" kind="primary" icon="link" busy=${busy.value}>${t("share.make")}<//></div>
        </form>`}
      ${links.value && links.value.length > 0 && html`<section><h3>${t("share.open_links")}</h3><ul class="link-list">${links.value.map((link) => html`<li key=${link.id}><${Icon} name="link" />
        <span class="grow"><span class="clip">${link.title || t("chat.untitled")}</span><br /><span class="muted small">${t("share.about", { n: link.message_count, time: formatTime(link.create_time), until: formatTime(link.expires_at) })}</span></span>
        <${IconButton} small icon="trash" label=${t("share.revoke")} onClick=${() => revoke(link)} /></li>`)}</ul></section>`}
    </div>
  <//>`;
}

// Title, tags and feedback

/** @param {import("./state.js").Chat} chat */
export function openRename(chat) {
  openDialog((close) => html`<${RenameDialog} chat=${chat} onClose=${close} />`);
}

/** @param {import("./state.js").Chat} chat */
export function openTags(chat) {
  openDialog((close) => html`<${TagsDialog} chat=${chat} onClose=${close} />`);
}

/** Ask why an answer was bad. @param {(more: {tags: string[], comment: string|null}) => Promise<any>} send */
export function openFeedback(send) {
  openDialog((close) => html`<${FeedbackDialog} send=${send} onClose=${close} />`);
}

/** @param {{chat: import("./state.js").Chat, onClose: () => void}} props */
function RenameDialog({ chat, onClose }) {
  const title = useSignal(chat.title);
  const busy = useSignal(false);
  const save = async (event) => {
    event.preventDefault();
    busy.value = true;
    try {
      await changeChat(chat.id, { title: title.value.trim() });
      onClose();
    } catch (error) {
      showError(error);
      busy.value = false;
    }
  };
  return html`<${Dialog} title=${t("chat.rename")} onClose=${onClose}>
    <form class="stack" onSubmit=${save}>
      <${Field} label=${t("chat.title")}>${(attributes) => html`<input ...${attributes} required maxlength=${config.value?.limits.title_characters ?? 50} value=${title.value} autofocus onInput=${(event) => { title.value = event.currentTarget.value; }} />`}<//>
      <div class="row end"><${Button} onClick=${onClose}>${t("ui.cancel")}<//><${Button} type="submit" kind="primary" busy=${busy.value}>${t("ui.save")}<//></div>
    </form><//>`;
}

/** @param {{chat: import("./state.js").Chat, onClose: () => void}} props */
function TagsDialog({ chat, onClose }) {
  const tags = useSignal(chat.tags ?? []);
  const next = useSignal("");
  const busy = useSignal(false);
  const known = [...new Set([...chats.value, ...pinned.value].flatMap((one) => one.tags ?? []))].filter((tag) => !tags.value.includes(tag)).slice(0, 20);
  const add = (tag) => {
    const clean = tag.trim();
    if (clean && !tags.value.includes(clean)) tags.value = [...tags.value, clean];
    next.value = "";
  };
  const save = async (event) => {
    event.preventDefault();
    add(next.value);
    busy.value = true;
    try {
      await changeChat(chat.id, { tags: tags.value });
      onClose();
    } catch (error) {
      showError(error);
      busy.value = false;
    }
  };
  const onKeyDown = (event) => {
    if (event.key === "Enter" && next.value.trim() && !event.isComposing) {
      event.preventDefault();
      add(next.value);
    }
  };
  return html`<${Dialog} title=${t("chat.tags")} onClose=${onClose}>
    <form class="stack" onSubmit=${save}>
      ${tags.value.length > 0 && html`<ul class="row wrap">${tags.value.map((tag) => html`<li key=${tag} class="badge accent tag">${tag}<button type="button" aria-label=${t("chat.remove_tag", { tag })} onClick=${() => { tags.value = tags.value.filter((one) => one !== tag); }}><${Icon} name="close" /></button></li>`)}</ul>`}
      <${Field} label=${t("chat.new_tag")} hint=${t("chat.tag_hint")}>${(attributes) => html`<input ...${attributes} maxlength=${config.value?.limits.tag_characters.most ?? 32} value=${next.value} autofocus onInput=${(event) => { next.value = event.currentTarget.value; }} onKeyDown=${onKeyDown} />`}<//>
      ${known.length > 0 && html`<div class="row wrap" role="group" aria-label=${t("chat.known_tags")}>${known.map((tag) => html`<button key=${tag} type="button" class="chip" onClick=${() => add(tag)}>${tag}</button>`)}</div>`}
      <div class="row end"><${Button} onClick=${onClose}>${t("ui.cancel")}<//><${Button} type="submit" kind="primary" busy=${busy.value}>${t("ui.save")}<//></div>
    </form><//>`;
}

const REASONS = ["wrong", "incomplete", "not_asked", "unsafe", "style"];

/** @param {{send: (more: any) => Promise<any>, onClose: () => void}} props */
function FeedbackDialog({ send: store, onClose }) {
  const tags = useSignal(/** @type {string[]} */ ([]));
  const comment = useSignal("");
  const busy = useSignal(false);
  const send = async () => {
    busy.value = true;
    try {
      await store({ tags: tags.value, comment: comment.value.trim() || null });
      toast(t("feedback.thanks"));
      onClose();
    } catch (error) {
      showError(error);
      busy.value = false;
    }
  };
  const toggle = (tag) => { tags.value = tags.value.includes(tag) ? tags.value.filter((one) => one !== tag) : [...tags.value, tag]; };
  return html`<${Dialog} title=${t("feedback.title")} onClose=${onClose} footer=${html`<${Button} onClick=${onClose}>${t("feedback.skip")}<//><${Button} kind="primary" busy=${busy.value} onClick=${send}>${t("feedback.send")}<//>`}>
    <div class="stack">
      <div class="row wrap" role="group" aria-label=${t("feedback.reasons")}>
        ${REASONS.map((tag) => html`<button key=${tag} type="button" class="chip" aria-pressed=${String(tags.value.includes(tag))} onClick=${() => toggle(tag)}>${t(`feedback.${tag}`)}</button>`)}
      </div>
      <${Field} label=${t("feedback.comment")} hint=${t("feedback.comment_hint")}>${(attributes) => html`<textarea ...${attributes} maxlength="1000" value=${comment.value} onInput=${(event) => { comment.value = event.currentTarget.value; }}></textarea>`}<//>
    </div>
  <//>`;
}

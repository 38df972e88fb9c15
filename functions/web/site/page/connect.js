/**
 * Connect: API keys, and what to enter into programs that speak OpenAI's API. It is loaded when it is opened.
 *
 * A new key is in the memory of this component alone, until its user closes it or leaves the page. It is in no storage and no address.
 */
import { Button, Check, Dialog, Empty, Field, Icon, IconButton, Menu, Notice, Segments, Spinner, announce, confirm, copyText, html, openDialog, toast, useEffect, useId, useLayoutEffect, useRef, useSignal } from "../shared/ui.js";
import { stateOf } from "../shared/key-state.js";
import { ApiError, call, config, explain, showError, signOut, user } from "../shared/session.js";
import { addTexts, formatFullTime, formatTime, t } from "../shared/text.js";
import { Markdown } from "../shared/markdown.js";
import { PLACEHOLDER, SNIPPETS, hostOf } from "./snippets.js";
import { presets } from "./state.js";

/** @typedef {{id: string, name: string, hint: string, models: string[]|null, credit_limit: number|null, credits_used: number,
 *   disabled: boolean, expires_at: string|null, create_time: string, last_used_time: string|null}} Key */
/** @typedef {Key & {key: string}} NewKey */

const PATH = "/users/me/keys";
const DAYS = [7, 30, 90, 365];
/** A list of models that is longer can be filtered. */
const SHORT = 10;

await Promise.all([addTexts({ en: () => import("./connect-text-en.js"), zh: () => import("./connect-text-zh.js") }), loadStyle("../styles/connect.css")]);

/** @param {string} path */
function loadStyle(path) {
  return new Promise((resolve, reject) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL(path, import.meta.url).href;
    link.onload = resolve;
    link.onerror = () => {
      link.remove();
      reject(new TypeError("a style sheet did not arrive"));
    };
    document.head.append(link);
  });
}

/** The models that a key can ask: those that are on offer, and presets. @returns {{id: string, label: string, isPreset: boolean}[]} */
function listModels() {
  const models = (config.value?.models ?? []).filter((one) => one.status === "available");
  return [
    ...models.map((one) => ({ id: one.model, label: one.model, isPreset: false })),
    ...(presets.value ?? []).map((one) => ({ id: `preset-${one.id}`, label: one.title, isPreset: true })),
  ];
}

/** @param {string} id */
const nameOf = (id) => listModels().find((one) => one.id === id)?.label ?? id;

/** Say what went wrong, and what to do. @param {any} error */
function explainKey(error) {
  if (error instanceof ApiError && error.status === 429) return `${explain(error)} ${t("connect.again", { minutes: Math.ceil((error.retryAfter ?? 60) / 60) })}`;
  return explain(error);
}

export function Connect() {
  const keys = useSignal(/** @type {Key[]|null} */ (null));
  const problem = useSignal("");
  const made = useSignal(/** @type {NewKey|null} */ (null));
  const heading = useRef(/** @type {HTMLElement} */ (/** @type {any} */ (null)));
  const read = async () => {
    problem.value = "";
    try {
      keys.value = await call("GET", PATH);
    } catch (error) {
      problem.value = explainKey(error);
    }
  };
  useEffect(() => { read(); }, []);
  useLayoutEffect(() => heading.current.focus(), []);
  const put = (/** @type {Key} */ key) => { keys.value = [key, ...(keys.value ?? []).filter((one) => one.id !== key.id)].sort((a, b) => (a.id < b.id ? 1 : -1)); };
  const drop = (/** @type {Key} */ key) => {
    keys.value = (keys.value ?? []).filter((one) => one.id !== key.id);
    if (made.value?.id === key.id) made.value = null;
  };
  const make = () => openDialog((close) => html`<${KeyForm} onClose=${close} onLost=${read} onDone=${(stored) => {
    const { key: _, ...listed } = stored;
    made.value = stored;
    put(listed);
  }} />`);
  const base = config.value?.v1_base;
  const mayMake = (user.value?.permission ?? 0) > 0;
  return html`<div class="connect"><div class="connect-inside">
    <header class="stack tight">
      <h1 ref=${heading} tabindex="-1" data-heading>${t("connect.title")}</h1>
      <p class="muted">${t("connect.text")}</p>
    </header>
    ${!base && html`<${Notice} kind="warning">${t("connect.no_base")}<//>`}
    <section class="stack" aria-labelledby="connect-keys">
      <div class="row wrap between">
        <h2 id="connect-keys">${t("connect.keys")}</h2>
        ${mayMake && html`<${Button} kind="primary" icon="plus" onClick=${make}>${t("connect.new")}<//>`}
      </div>
      ${!mayMake && html`<${Notice}>${t("connect.visitor")}<//>`}
      ${made.value && html`<${Made} made=${made.value} onClose=${() => { made.value = null; }} />`}
      ${problem.value && html`<${Notice} kind="danger"><div class="row wrap between"><span>${problem.value}</span><${Button} small icon="again" onClick=${read}>${t("ui.retry")}<//></div><//>`}
      ${keys.value ? keys.value.length ? html`<ul class="keys">${keys.value.map((key) => html`<${KeyCard} key=${key.id} one=${key} onChange=${put} onGone=${drop} />`)}</ul>`
        : html`<div class="card"><${Empty} icon="key" title=${t("connect.none")}><p>${t("connect.none_text")}</p><//></div>` : !problem.value && html`<${Spinner} />`}
    </section>
    ${base && html`<${Use} base=${base} made=${made.value} />`}
  </div></div>`;
}

/** The new key, this once. @param {{made: NewKey, onClose: () => void}} props */
function Made({ made, onClose }) {
  const field = useRef(/** @type {HTMLInputElement} */ (/** @type {any} */ (null)));
  useLayoutEffect(() => {
    announce(t("connect.made", { name: made.name }));
    field.current.focus();
    field.current.select();
    field.current.scrollIntoView({ block: "nearest" });
    requestAnimationFrame(() => { if (field.current) field.current.scrollLeft = 0; }); // its beginning stays in view
  }, [made.id]);
  return html`<div class="card made-key stack tight" role="group" aria-label=${t("connect.made", { name: made.name })}>
    <h3>${t("connect.made", { name: made.name })}</h3>
    <p>${t("connect.once")}</p>
    <div class="copy-field"><input ref=${field} class="input code" readonly spellcheck=${false} autocomplete="off" aria-label=${t("connect.key")} value=${made.key} />
      <${Button} kind="primary" icon="copy" onClick=${() => copyText(made.key)}>${t("connect.copy_key")}<//></div>
    <p class="row end"><${Button} small onClick=${onClose}>${t("connect.stored")}<//></p>
  </div>`;
}

/** @param {{one: Key, onChange: (key: Key) => void, onGone: (key: Key) => void}} props */
function KeyCard({ one, onChange, onGone }) {
  const state = stateOf(one);
  const attempt = async (work) => {
    try {
      await work();
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) onGone(one);
      toast(explainKey(error));
    }
  };
  const pause = () => attempt(async () => {
    onChange(await call("PUT", `${PATH}/${one.id}`, { body: { disabled: !one.disabled } }));
    toast(t(one.disabled ? "connect.resumed" : "connect.paused", { name: one.name }), { seconds: 3 });
  });
  const revoke = async () => {
    if (!(await confirm({ title: t("connect.revoke_title", { name: one.name }), text: t("connect.revoke_text"), action: t("connect.revoke") }))) return;
    attempt(async () => {
      await call("DELETE", `${PATH}/${one.id}`);
      onGone(one);
      toast(t("connect.revoked", { name: one.name }));
    });
  };
  const used = one.credit_limit === null ? t("connect.used", { used: one.credits_used }) : t("connect.used_of", { used: one.credits_used, limit: one.credit_limit });
  return html`<li class="card key-card">
    <div class="row key-head">
      <${Icon} name="key" /><strong class="clip" title=${one.name}>${one.name}</strong><code class="muted">sk-…${one.hint}</code>
      <span class=${`badge ${state.kind}`}>${t(`connect.state_${state.name}`)}</span><span class="grow"></span>
      <${Menu} small label=${t("connect.actions", { name: one.name })} items=${[
        { label: t("connect.change"), icon: "edit", onSelect: () => openDialog((close) => html`<${KeyForm} one=${one} onClose=${close} onDone=${onChange} onLost=${() => {}} />`) },
        { label: t(one.disabled ? "connect.resume" : "connect.pause"), icon: one.disabled ? "again" : "stop", onSelect: pause },
        "line",
        { label: t("connect.revoke"), icon: "trash", danger: true, onSelect: revoke },
      ]} />
    </div>
    <dl class="key-facts">
      <div><dt>${t("connect.credits")}</dt><dd class="number">${used}${one.credit_limit !== null && html`<i class="bar" aria-hidden="true"><i style=${{ width: `${Math.min(100, (one.credits_used / one.credit_limit) * 100)}%` }}></i></i>`}</dd></div>
      <div><dt>${t("connect.models")}</dt><dd>${one.models ? html`<span title=${one.models.join(", ")}>${one.models.slice(0, 3).map(nameOf).join(", ")}${one.models.length > 3 ? t("connect.and_more", { n: one.models.length - 3 }) : ""}</span>` : t("connect.all_models")}</dd></div>
      <div><dt>${t("connect.expires")}</dt><dd>${one.expires_at ? html`<time datetime=${one.expires_at}>${formatFullTime(one.expires_at)}</time>` : t("connect.never")}</dd></div>
      <div><dt>${t("connect.last_used")}</dt><dd>${one.last_used_time ? html`<time datetime=${one.last_used_time}>${formatTime(one.last_used_time)}</time>` : t("connect.not_used")}</dd></div>
    </dl>
  </li>`;
}

/** @param {Date} date as the field for a day has it */
const dayOf = (date) => `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")}`;

/** The end of a person's own day. @param {string} day */
const endOf = (day) => new Date(`${day}T23:59:59.999`).toISOString();

/**
 * Make a key, or change one. Only what has changed is sent.
 * @param {{one?: Key, onClose: () => void, onDone: (key: any) => void, onLost: () => void}} props `onLost` runs if it is unknown whether a key was made
 */
function KeyForm({ one, onClose, onDone, onLost }) {
  const form = useSignal({
    name: one?.name ?? "",
    lasts: one?.expires_at ? "day" : "never",
    day: one?.expires_at ? dayOf(new Date(one.expires_at)) : "",
    limit: one && one.credit_limit !== null ? String(one.credit_limit) : "",
    restricts: Boolean(one?.models),
    models: one?.models ?? /** @type {string[]} */ ([]),
    password: "",
  });
  const id = useId();
  const busy = useSignal(false);
  const problem = useSignal("");
  const problems = useSignal(/** @type {Record<string, string>} */ ({}));
  const wantsPassword = useSignal(false);
  /** Without a password, only a new sign-in is fresh. */
  const wantsSignIn = useSignal(false);
  const set = (changes) => { form.value = { ...form.value, ...changes }; };
  const input = (name) => (event) => set({ [name]: event.currentTarget.value });
  const now = form.value;

  const wanted = () => {
    let expires = /** @type {string|null} */ (null);
    if (now.lasts === "day" && now.day) expires = one?.expires_at && dayOf(new Date(one.expires_at)) === now.day ? one.expires_at : endOf(now.day);
    else if (now.lasts !== "never" && now.lasts !== "day") expires = new Date(Date.now() + Number(now.lasts) * 86_400_000).toISOString();
    return { name: now.name.trim(), expires_at: expires, credit_limit: now.limit === "" ? null : Number(now.limit), models: now.restricts ? now.models : null };
  };
  const changesOf = (/** @type {Record<string, any>} */ body) => (one ? Object.fromEntries(Object.entries(body).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(one[name]))) : body);

  const refuse = (/** @type {any} */ error) => {
    if (error instanceof ApiError && error.code === "fresh_sign_in_required") {
      if (!user.value?.username) wantsSignIn.value = true;
      else if (wantsPassword.value) problems.value = { password: explain(error) };
      else wantsPassword.value = true;
    } else if (error instanceof ApiError && error.code === "expires_in_the_past") problems.value = { expires_at: t("connect.in_the_past") };
    else if (error instanceof ApiError && error.code === "validation_error" && Array.isArray(error.data?.detail)) {
      const fields = /** @type {Record<string, string>} */ ({});
      for (const { loc, msg } of error.data.detail) fields[["name", "expires_at", "credit_limit", "models"].includes(loc?.[1]) ? loc[1] : ""] ??= msg;
      problems.value = fields;
      problem.value = fields[""] ?? "";
    } else if (!one && error instanceof ApiError && error.status === 0) {
      problem.value = t("connect.lost");
      onLost();
    } else problem.value = explainKey(error);
  };
  const save = async (event) => {
    event.preventDefault();
    if (busy.value) return;
    problem.value = "";
    problems.value = {};
    if (now.restricts && !now.models.length) {
      problems.value = { models: t("connect.models_none") };
      return;
    }
    const body = changesOf(wanted());
    if (!Object.keys(body).length) {
      onClose();
      return;
    }
    busy.value = true;
    try {
      const stored = one ? await call("PUT", `${PATH}/${one.id}`, { body }) : await call("POST", PATH, { body: { ...body, ...(wantsPassword.value ? { current_password: now.password } : {}) } });
      onClose();
      onDone(stored);
      if (one) toast(t("connect.changed"), { seconds: 3 });
    } catch (error) {
      refuse(error);
    } finally {
      busy.value = false;
    }
  };
  const wrong = problems.value;
  return html`<${Dialog} title=${t(one ? "connect.change_title" : "connect.new")} onClose=${onClose} footer=${html`<${Button} onClick=${onClose}>${t("ui.cancel")}<//>
      <${Button} type="submit" form=${id} kind="primary" busy=${busy.value}>${t(one ? "ui.save" : "connect.make")}<//>`}>
    <form id=${id} class="stack" onSubmit=${save}>
      ${problem.value && html`<${Notice} kind="danger">${problem.value}<//>`}
      ${wantsSignIn.value && html`<${Notice} kind="warning"><p>${t("connect.sign_in_again")}</p><p class="notice-actions"><${Button} small icon="leave" onClick=${() => signOut().catch(showError)}>${t("session.out")}<//></p><//>`}
      <${Field} label=${t("connect.name")} hint=${t("connect.name_hint")} problem=${wrong.name}>${(attributes) => html`<input ...${attributes} required maxlength=${config.value?.limits.title_characters ?? 50} autocomplete="off" autofocus value=${now.name} onInput=${input("name")} />`}<//>
      <div class="row pair">
        <div class="grow"><${Field} label=${t("connect.expires")} problem=${now.lasts === "day" ? "" : wrong.expires_at}>${(attributes) => html`<select ...${attributes} value=${now.lasts} onChange=${input("lasts")}>
          <option value="never">${t("connect.never")}</option>
          ${DAYS.map((days) => html`<option key=${days} value=${String(days)}>${t("connect.in_days", { days })}</option>`)}
          <option value="day">${t("connect.on_day")}</option></select>`}<//></div>
        ${now.lasts === "day" && html`<div class="grow"><${Field} label=${t("connect.last_day")} problem=${wrong.expires_at}>${(attributes) => html`<input ...${attributes} type="date" required value=${now.day} onInput=${input("day")} />`}<//></div>`}
      </div>
      <${Field} label=${t("connect.limit")} hint=${one ? t("connect.limit_hint_used", { used: one.credits_used }) : t("connect.limit_hint")} problem=${wrong.credit_limit}>${(attributes) => html`<input ...${attributes} type="number" min="1" max="1000000000000" step="1" inputmode="numeric" placeholder=${t("connect.no_limit")} value=${now.limit} onInput=${input("limit")} />`}<//>
      <${Models} chosen=${now.models} restricts=${now.restricts} problem=${wrong.models} onChange=${set} />
      ${wantsPassword.value && html`<${Field} label=${t("session.password")} hint=${t("connect.password_hint")} problem=${wrong.password}>${(attributes) => html`<input ...${attributes} type="password" autocomplete="current-password" required autofocus value=${now.password} onInput=${input("password")} />`}<//>`}
    </form>
  <//>`;
}

/** @param {{chosen: string[], restricts: boolean, problem?: string, onChange: (changes: {models?: string[], restricts?: boolean}) => void}} props */
function Models({ chosen, restricts, problem, onChange }) {
  const query = useSignal("");
  const offered = listModels();
  // A model that is not on offer any more stays until its user removes it.
  const all = [...chosen.filter((id) => !offered.some((one) => one.id === id)).map((id) => ({ id, label: id, isPreset: false })), ...offered];
  const wanted = query.value.trim().toLowerCase();
  const shown = all.filter((one) => !wanted || `${one.label} ${one.id}`.toLowerCase().includes(wanted));
  const toggle = (id) => (checked) => onChange({ models: checked ? [...chosen, id] : chosen.filter((one) => one !== id) });
  return html`<div class="field" role="group" aria-label=${t("connect.models")}>
    <span class="label" aria-hidden="true">${t("connect.models")}</span>
    <${Segments} label=${t("connect.which_models")} value=${restricts ? "some" : "all"} onChange=${(value) => onChange({ restricts: value === "some" })} options=${[{ value: "all", label: t("connect.all_models") }, { value: "some", label: t("connect.these_models") }]} />
    ${restricts && html`<div class="model-choice">
      ${all.length > SHORT && html`<input class="input" type="search" aria-label=${t("connect.filter_models")} placeholder=${t("connect.filter_models")} value=${query.value} onInput=${(event) => { query.value = event.currentTarget.value; }} />`}
      <div class="model-list" tabindex="0" role="group" aria-label=${t("connect.these_models")}>${shown.map((one) => html`<${Check} key=${one.id} label=${one.isPreset ? t("connect.preset", { title: one.label }) : one.label} checked=${chosen.includes(one.id)} onChange=${toggle(one.id)} />`)}
        ${!shown.length && html`<p class="muted small">${t("connect.no_model")}</p>`}</div>
    </div>`}
    ${problem && html`<span class="problem" role="alert">${problem}</span>`}
  </div>`;
}

/** A value with a button that copies it. @param {{label: string, value: string, copy: string}} props */
function Value({ label, value, copy }) {
  return html`<div class="value"><dt>${label}</dt><dd class="copy-field"><code class="grow">${value}</code><${IconButton} small icon="copy" label=${copy} onClick=${() => copyText(value)} /></dd></div>`;
}

/** What to enter where. @param {{base: string, made: NewKey|null}} props */
function Use({ base, made }) {
  const kind = useSignal("python");
  const chosen = useSignal("");
  const offered = listModels().filter((one) => !made?.models || made.models.includes(one.id));
  const preferred = config.value?.default_preset?.model;
  const model = (offered.find((one) => one.id === chosen.value) ?? offered.find((one) => one.id === preferred) ?? offered[0])?.id ?? preferred ?? "";
  const key = made?.key ?? PLACEHOLDER;
  const snippet = SNIPPETS.find((one) => one.name === kind.value);
  const code = snippet?.write({ base, key, model, question: t("connect.question") });
  const option = (one) => html`<option key=${one.id} value=${one.id}>${one.label}</option>`;
  const models = offered.filter((one) => !one.isPreset);
  const ownPresets = offered.filter((one) => one.isPreset);
  return html`<section class="stack" aria-labelledby="connect-use">
    <div class="stack tight"><h2 id="connect-use">${t("connect.use")}</h2><p class="muted">${t(made ? "connect.use_filled" : "connect.use_text")}</p></div>
    <div class="card stack">
      <div class="use-values">
        <dl><${Value} label=${t("connect.base")} value=${base} copy=${t("connect.copy_base")} /></dl>
        <${Field} label=${t("connect.model")}>${(attributes) => html`<div class="copy-field"><select ...${attributes} value=${model} onChange=${(event) => { chosen.value = event.currentTarget.value; }}>
          ${models.length > 0 && html`<optgroup label=${t("connect.models")}>${models.map(option)}</optgroup>`}
          ${ownPresets.length > 0 && html`<optgroup label=${t("presets.title")}>${ownPresets.map(option)}</optgroup>`}</select>
          <${IconButton} icon="copy" label=${t("connect.copy_model")} onClick=${() => copyText(model)} /></div>`}<//>
      </div>
      <div class="scrolled"><${Segments} label=${t("connect.program")} value=${kind.value} onChange=${(value) => { kind.value = value; }} options=${[...SNIPPETS.map(({ name, label }) => ({ value: name, label })), { value: "cherry", label: "Cherry Studio" }]} /></div>
      ${snippet ? html`<div class="snippet" data-snippet=${snippet.name}>
          ${snippet.install && html`<p class="muted small">${t("connect.install")} <code>${snippet.install}</code></p>`}
          <${Markdown} key=${code} text=${`~~~~~~${snippet.language}\n${code}~~~~~~\n`} /></div>`
        : html`<div class="snippet" data-snippet="cherry"><ol class="steps">
            <li>${t("connect.cherry_1")}</li><li>${t("connect.cherry_2")}</li><li>${t("connect.cherry_3")}</li></ol>
            <dl class="use-values"><${Value} label=${t("connect.cherry_host")} value=${hostOf(base)} copy=${t("connect.copy_host")} />
              <${Value} label=${t("connect.cherry_key")} value=${key} copy=${t("connect.copy_key")} /><${Value} label=${t("connect.cherry_model")} value=${model} copy=${t("connect.copy_model")} /></dl></div>`}
      <p class="muted small row"><${Icon} name="shield" /><span>${t("connect.keep")}</span></p>
    </div>
  </section>`;
}

/**
 * The parts of the console's pages: headings, tables, lists that go on, figures, ids, and dialogs for actions.
 */
import { explain } from "../shared/session.js";
import { formatFullTime, formatNumber, t } from "../shared/text.js";
import { Button, Dialog, Empty, Field, Icon, IconButton, Notice, Spinner, copyText, html, openDialog, toast, useId, useState } from "../shared/ui.js";
import { wantsPassword } from "./calls.js";

/** @typedef {any} Children */

/**
 * The head of a page. Its heading takes the focus when the page appears.
 * @param {{title: string, text?: Children, back?: {href: string, label: string}, children?: Children}} props
 */
export function Heading({ title, text, back, children }) {
  return html`<header class="heading">
    <div class="grow stack tight">
      ${back && html`<a class="back small" href=${back.href}><${Icon} name="chevron-left" />${back.label}</a>`}
      <h1 tabindex="-1" data-heading>${title}</h1>
      ${text && html`<p class="muted">${text}</p>`}
    </div>
    ${children && html`<div class="row wrap actions">${children}</div>`}
  </header>`;
}

/** @param {{title?: string, text?: Children, actions?: Children, class?: string, children?: Children}} props */
export function Panel({ title, text, actions, class: extra = "", children }) {
  const id = useId();
  return html`<section class=${`panel ${extra}`} aria-labelledby=${title ? id : undefined}>
    ${(title || actions) && html`<div class="panel-head">
      <div class="grow">${title && html`<h2 id=${id}>${title}</h2>`}${text && html`<p class="muted small">${text}</p>`}</div>
      ${actions && html`<div class="row wrap">${actions}</div>`}
    </div>`}
    ${children}
  </section>`;
}

/** What went wrong, and a button to try again. @param {{error: any, retry?: () => void}} props */
export function Failure({ error, retry }) {
  return html`<${Notice} kind="danger"><div class="row wrap between"><span>${explain(error)}</span>
    ${retry && html`<${Button} small icon="again" onClick=${retry}>${t("ui.retry")}<//>`}</div><//>`;
}

/** Show the state of something that is loaded. @param {{of: {data: any, error: any, loading: boolean, reload: () => void}, children: (data: any) => any}} props */
export function Loaded({ of, children }) {
  if (of.error) return html`<${Failure} error=${of.error} retry=${of.reload} />`;
  if (of.data === undefined) return html`<div class="waiting"><${Spinner} /></div>`;
  return html`<div class="loaded" aria-busy=${of.loading ? "true" : undefined}>${children(of.data)}</div>`;
}

/**
 * @typedef {{name: string, label: string, cell: (row: any) => Children, number?: boolean, wide?: boolean}} Column
 *
 * A table. On a phone, each row is a card, and each cell has its label.
 * @param {{label: string, columns: Column[], rows: any[], id: (row: any) => string, href?: (row: any) => string}} props
 */
export function Table({ label, columns, rows, id, href }) {
  return html`<div class="table-frame" tabindex="0" role="group" aria-label=${label}>
    <table class="table cards" role="table" aria-label=${label}>
      <thead role="rowgroup"><tr role="row">${columns.map((column) => html`<th key=${column.name} role="columnheader" scope="col" class=${column.number ? "number" : ""}>${column.label}</th>`)}</tr></thead>
      <tbody role="rowgroup">${rows.map((row) => html`<tr role="row" key=${id(row)} class=${href ? "linked" : ""}>
        ${columns.map((column, index) => {
          const inside = column.cell(row);
          const classes = [column.number && "number", column.wide && "wide"].filter(Boolean).join(" ");
          return html`<td key=${column.name} role="cell" class=${classes} data-label=${column.label}>
            ${index === 0 && href ? html`<a class="row-link" href=${href(row)}>${inside}</a>` : inside}</td>`;
        })}</tr>`)}</tbody>
    </table>
  </div>`;
}

/**
 * A list that is read page by page: its table, what it says when it is empty, and the button for more.
 * @param {{list: any, empty: {title: string, text?: string, icon?: string}, columns: Column[], label: string, id: (row: any) => string,
 *   href?: (row: any) => string, rows?: any[]}} props
 */
export function ListTable({ list, empty, rows = list.items, ...table }) {
  if (list.error && !rows.length) return html`<${Failure} error=${list.error} retry=${list.reload} />`;
  if (!rows.length && list.loading) return html`<div class="waiting"><${Spinner} /></div>`;
  return html`
    ${rows.length ? html`<${Table} ...${table} rows=${rows} />`
      : html`<${Empty} icon=${empty.icon} title=${empty.title}>${empty.text && html`<p>${empty.text}</p>`}<//>`}
    <${More} list=${list} />`;
}

/** @param {{list: any}} props */
export function More({ list }) {
  if (list.error) return html`<${Failure} error=${list.error} retry=${list.more} />`;
  if (!list.hasMore) return null;
  return html`<div class="more"><${Button} busy=${list.loading} onClick=${list.more}>${t("ui.show_more")}<//></div>`;
}

/** A figure with its name. @param {{label: string, value: Children, text?: Children, kind?: string}} props */
export function Figure({ label, value, text, kind = "" }) {
  return html`<div class=${`figure ${kind}`}><dt>${label}</dt><dd class="value number">${value}</dd>${text && html`<dd class="muted small">${text}</dd>`}</div>`;
}

/** @param {{children?: Children}} props */
export function Figures({ children }) {
  return html`<dl class="figures">${children}</dl>`;
}

/** Nothing. A card on a phone leaves it out, with its label. */
export function None() {
  return html`<span class="muted none">–</span>`;
}

/** An id, shortened, with a button that copies all of it. @param {{value: string|null|undefined, whole?: boolean, href?: string}} props */
export function Id({ value, whole, href }) {
  if (!value) return html`<${None} />`;
  const shown = whole || value.length <= 20 ? value : `${value.slice(0, 8)}…${value.slice(-6)}`;
  const text = html`<code title=${value}>${shown}</code>`;
  return html`<span class="id">${href ? html`<a href=${href}>${text}</a>` : text}<${IconButton} small icon="copy" label=${t("console.copy_id", { id: value })} onClick=${() => copyText(value)} /></span>`;
}

/** @param {{value: string|null|undefined}} props */
export function Time({ value }) {
  if (!value) return html`<${None} />`;
  return html`<time datetime=${value} title=${value}>${formatFullTime(value)}</time>`;
}

/** An amount of credits with its sign. @param {{value: number}} props */
export function Amount({ value }) {
  return html`<span class=${`number amount ${value < 0 ? "" : "plus"}`}>${value > 0 ? "+" : value < 0 ? "−" : ""}${formatNumber(Math.abs(value))}</span>`;
}

/** A value by a key, or the value itself if there is no text for it. @param {string} prefix @param {string} value */
export function named(prefix, value) {
  const key = `${prefix}.${value}`;
  const text = t(key);
  return text === key ? value : text;
}

/**
 * A dialog with a form. `onSubmit` does the work: the dialog stays open, with the reason, where it fails. If the API asks for the
 * password, the dialog asks for it and tries again with it.
 * @param {{title: string, text?: Children, action: string, danger?: boolean, wide?: boolean, close: () => void, ready?: boolean,
 *   onSubmit: (password: string|undefined) => Promise<void>, children?: Children}} props
 */
export function FormDialog({ title, text, action, danger, wide, close, ready = true, onSubmit, children }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const [password, setPassword] = useState("");
  const [asked, setAsked] = useState(false);
  const form = useId();
  const submit = async (event) => {
    event.preventDefault();
    if (busy || !ready) return;
    setBusy(true);
    setProblem("");
    try {
      await onSubmit(asked ? password : undefined);
      close();
    } catch (error) {
      const first = wantsPassword(error) && !asked;
      setAsked(asked || first);
      setProblem(first ? "" : explain(error));
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${title} wide=${wide} onClose=${close} footer=${html`
      <${Button} onClick=${close}>${t("ui.cancel")}<//>
      <${Button} type="submit" form=${form} kind=${danger ? "danger-fill" : "primary"} busy=${busy} disabled=${!ready || (asked && !password)}>${action}<//>`}>
    <form id=${form} class="stack" onSubmit=${submit}>
      ${text && html`<p>${text}</p>`}
      ${children}
      ${asked && html`<${Password} value=${password} onChange=${setPassword} />`}
      ${problem && html`<${Notice} kind="danger">${problem}<//>`}
    </form>
  <//>`;
}

/** @param {{value: string, onChange: (value: string) => void}} props */
function Password({ value, onChange }) {
  return html`<${Field} label=${t("console.own_password")} hint=${t("console.own_password_hint")}>${(attributes) => html`<input ...${attributes} type="password" autocomplete="current-password"
    required autofocus ref=${focusOnce} value=${value} onInput=${(event) => onChange(event.currentTarget.value)} />`}<//>`;
}

/** Focus an element when it appears. @param {HTMLElement & {seen?: boolean}|null} element */
function focusOnce(element) {
  if (!element || element.seen) return;
  element.seen = true;
  element.focus();
}

/**
 * Ask before an action that cannot be undone, and do it. With `word`, the administrator types this word first.
 * @param {{title: string, text: string, action: string, word?: string, done?: string, run: (password: string|undefined) => Promise<void>}} question
 */
export function askAndDo({ title, text, action, word, done, run }) {
  openDialog((close) => html`<${Confirmation} ...${{ title, text, action, word, done, run, close }} />`);
}

/** @param {any} props */
function Confirmation({ title, text, action, word, done, run, close }) {
  const [typed, setTyped] = useState("");
  return html`<${FormDialog} title=${title} text=${text} action=${action} danger close=${close} ready=${!word || typed.trim() === word}
      onSubmit=${async (password) => { await run(password); if (done) toast(done); }}>
    ${word && html`<${TextField} label=${t("console.type_to_confirm", { word })} value=${typed} onChange=${setTyped} autocomplete="off" autocapitalize="none" spellcheck=${false} />`}
  <//>`;
}

/**
 * A line of text with its label. Other attributes go to the input.
 * @param {{label: string, hint?: string, problem?: string, value: string, onChange: (value: string) => void, [attribute: string]: any}} props
 */
export function TextField({ label, hint, problem, value, onChange, ...rest }) {
  return html`<${Field} label=${label} hint=${hint} problem=${problem}>${(attributes) => html`<input type="text" ...${attributes} ...${rest} value=${value}
    onInput=${(event) => onChange(event.currentTarget.value)} />`}<//>`;
}

/**
 * A search: a line of text and its button.
 * @param {{label: string, hint?: string, value: string, onChange: (value: string) => void, onSearch: () => void, onClear?: () => void, [attribute: string]: any}} props
 */
export function Search({ label, hint, value, onChange, onSearch, onClear, ...rest }) {
  return html`<form class="search" role="search" onSubmit=${(event) => { event.preventDefault(); onSearch(); }}>
    <${Field} label=${label} hint=${hint}>${(attributes) => html`<div class="row">
      <input type="search" ...${attributes} autocapitalize="none" autocomplete="off" spellcheck=${false} ...${rest} value=${value} onInput=${(event) => onChange(event.currentTarget.value)} />
      <${Button} type="submit" icon="search">${t("console.search")}<//>${onClear && html`<${Button} kind="plain" onClick=${onClear}>${t("console.show_all")}<//>`}</div>`}<//>
  </form>`;
}

/** @param {{label: string, hint?: string, value: string, onChange: (value: string) => void, [attribute: string]: any}} props */
export function TextArea({ label, hint, value, onChange, ...rest }) {
  return html`<${Field} label=${label} hint=${hint}>${(attributes) => html`<textarea ...${attributes} ...${rest} value=${value}
    onInput=${(event) => onChange(event.currentTarget.value)}></textarea>`}<//>`;
}

/** @param {{label: string, hint?: string, value: string, options: {value: string, label: string}[], onChange: (value: string) => void}} props */
export function Select({ label, hint, value, options, onChange }) {
  return html`<${Field} label=${label} hint=${hint}>${(attributes) => html`<select ...${attributes} value=${value} onChange=${(event) => onChange(event.currentTarget.value)}>
    ${options.map((option) => html`<option key=${option.value} value=${option.value} selected=${option.value === value}>${option.label}</option>`)}</select>`}<//>`;
}

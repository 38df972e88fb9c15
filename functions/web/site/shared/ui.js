/**
 * The parts that the chat page and the console are made of: Preact with htm and signals, icons, buttons, fields, dialogs,
 * menus and toasts. Every part works by keyboard, and takes its texts from `t`.
 */
import { h, render, Fragment } from "../vendor/preact.js";
import { useCallback, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "../vendor/hooks.js";
import { batch, computed, effect, signal, useComputed, useSignal, useSignalEffect } from "../vendor/signals.js";
import htm from "../vendor/htm.js";
import { t } from "./text.js";

export {
  h, render, Fragment, useCallback, useEffect, useId, useLayoutEffect, useMemo, useRef, useState,
  batch, computed, effect, signal, useComputed, useSignal, useSignalEffect,
};

/** Write elements as in JSX: html`<p class="muted">${text}</p>`. A value is text, never markup. */
export const html = htm.bind(h);

/** @typedef {any} Children */

// Each icon is the path of a 24x24 drawing in strokes.
const ICONS = {
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  check: "M5 12.5l4.5 4.5L19 7.5",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM20 20l-4-4",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  menu: "M4 7h16M4 12h16M4 17h16",
  sidebar: "M5 4h14a1.5 1.5 0 0 1 1.5 1.5v13A1.5 1.5 0 0 1 19 20H5a1.5 1.5 0 0 1-1.5-1.5v-13A1.5 1.5 0 0 1 5 4ZM9 4v16",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  copy: "M9 9h9a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-8a2 2 0 0 1-2-2v-9ZM15 6V5a2 2 0 0 0-2-2H5a2 2 0 0 0-2 2v9a2 2 0 0 0 2 2h1",
  edit: "M4 20h4L19 9a2.200 2.200 0 0 0-4-4L4 16ZM13.5 6.5l4 4",
  again: "M20 11a8 8 0 1 0-2 6M20 4v7h-7",
  up: "M7 11v9H4v-9ZM7 11l4-8a2.5 2.5 0 0 1 2.5 2.800L13 9h5.5a2 2 0 0 1 2 2.300l-1.100 7A2 2 0 0 1 17.400 20H7",
  down: "M17 13V4h3v9ZM17 13l-4 8a2.5 2.5 0 0 1-2.5-2.800L11 15H5.5a2 2 0 0 1-2-2.300l1.100-7A2 2 0 0 1 6.600 4H17",
  share: "M12 15V3M7.5 7.5 12 3l4.5 4.5M5 12v7a2 2 0 0 0 2 2h10a2 2 0 0 0 2-2v-7",
  download: "M12 3v12M7.5 10.5 12 15l4.5-4.5M4 20h16",
  link: "M10 14a4 4 0 0 0 5.700 0l3-3A4 4 0 0 0 13 5.300l-1 1M14 10a4 4 0 0 0-5.700 0l-3 3a4 4 0 0 0 5.700 5.700l1-1",
  pin: "M12 16v5M8 4h8l-1 6 3 3.5V16H6v-2.5L9 10Z",
  tag: "M4 4h7l9 9-7 7-9-9ZM8.5 8.5h.01",
  archive: "M4 8h16v11a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1ZM3 4h18v4H3ZM10 12h4",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 9.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM9 19.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5Z",
  user: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM4.5 21a7.5 7.5 0 0 1 15 0",
  users: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM2.5 20a6.5 6.5 0 0 1 13 0M16 4.300a3.5 3.5 0 0 1 0 6.400M18.5 14.5a6.5 6.5 0 0 1 3 5.5",
  leave: "M14 4h5a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1h-5M10 8l-4 4 4 4M6 12h9",
  coin: "M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16ZM12 8l4 4-4 4-4-4Z",
  image: "M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1ZM4 16l5-5 4 4 3-3 4 4M15.5 9h.01",
  file: "M6 3h8l5 5v13H6ZM14 3v5h5M9 13h6M9 17h6",
  clip: "M20 11l-8.5 8.5a5 5 0 0 1-7-7L13 4a3.300 3.300 0 0 1 4.700 4.700l-8.5 8.5a1.700 1.700 0 0 1-2.400-2.400L14.5 7",
  "chevron-down": "M6 9.5l6 6 6-6",
  "chevron-right": "M9.5 6l6 6-6 6",
  "chevron-left": "M14.5 6l-6 6 6 6",
  "arrow-down": "M12 5v14M6 13l6 6 6-6",
  sparkle: "M12 3l1.900 5.600a2 2 0 0 0 1.300 1.300L21 12l-5.800 2.100a2 2 0 0 0-1.300 1.300L12 21l-1.900-5.600a2 2 0 0 0-1.300-1.300L3 12l5.800-2.100a2 2 0 0 0 1.300-1.300Z",
  thought: "M9 18h6M10 21h4M12 3a6 6 0 0 0-3.700 10.700c.8.600 1.200 1.400 1.200 2.300h5c0-.9.400-1.700 1.200-2.300A6 6 0 0 0 12 3Z",
  globe: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18ZM3 12h18M12 3c5 5.5 5 12.5 0 18M12 3c-5 5.5-5 12.5 0 18",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM12 2v2M12 20v2M4.900 4.900l1.400 1.400M17.700 17.700l1.400 1.400M2 12h2M20 12h2M4.900 19.100l1.400-1.400M17.700 6.300l1.400-1.400",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5Z",
  info: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18ZM12 11v5.5M12 7.5h.01",
  warning: "M12 4 2.5 20h19ZM12 10v4.5M12 17.5h.01",
  offline: "M3 3l18 18M8.5 16.5a5 5 0 0 1 7 0M5 13a10 10 0 0 1 5-2.700M14.5 10.5A10 10 0 0 1 19 13M2 9.5A15 15 0 0 1 6.5 6.700M10.5 5.100A15 15 0 0 1 22 9.5M12 20h.01",
  device: "M4 5h16v11H4ZM2 20h20",
  key: "M14.5 14a5 5 0 1 0-4.5-2.800L3 18v3h4v-2h2v-2h2l1.600-1.600M16 8.5h.01",
  chart: "M4 4v16h16M8 16v-4M12.5 16V8M17 16v-6",
  grid: "M4 4h6.5v6.5H4ZM13.5 4H20v6.5h-6.5ZM4 13.5h6.5V20H4ZM13.5 13.5H20V20h-6.5Z",
  filter: "M4 6h16M7 12h10M10 18h4",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12ZM12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6Z",
  mail: "M4 6h16v12H4ZM4 7l8 6 8-6",
  ticket: "M4 7h16v3.5a1.5 1.5 0 0 0 0 3V17H4v-3.5a1.5 1.5 0 0 0 0-3ZM14 7v2M14 11v2M14 15v2",
  shield: "M12 3l8 3v6c0 4.5-3.200 7.600-8 9-4.800-1.400-8-4.5-8-9V6Z",
  forward: "M5 5l7 7-7 7M13 5l7 7-7 7",
  chat: "M4 5h16v11H10l-5 4v-4H4Z",
};

/**
 * A decorative icon. The text beside it, or the button's label, says what it means.
 * @param {{name: string, class?: string}} props
 */
export function Icon({ name, class: extra = "" }) {
  return html`<svg class=${`icon icon-${name} ${extra}`} viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path d=${ICONS[name] ?? ""} /></svg>`;
}

/**
 * The mark: a deer's head in the color of the text.
 * @param {{size?: number, label?: string}} props
 */
export function Deer({ size = 28, label }) {
  return html`<svg class="deer" width=${size} height=${size} viewBox="0 0 48 48" role=${label ? "img" : undefined}
    aria-label=${label} aria-hidden=${label ? undefined : "true"} fill="currentColor">
    <g fill="none" stroke="currentColor" stroke-width="3" stroke-linecap="round">
      <path d="M20.5 20.5C15.5 16.5 13 11.5 13.5 3.5M13.700 11C10 11 7.200 9 6 5.5M16.5 16.800C11.5 18 7.5 16.5 5 13" />
      <path d="M27.5 20.5C32.5 16.5 35 11.5 34.5 3.5M34.300 11C38 11 40.800 9 42 5.5M31.5 16.800C36.5 18 40.5 16.5 43 13" />
    </g>
    <path d="M17 24.5C12 21.5 7.5 22 4.5 25C7.5 29 12.5 30 17 28ZM31 24.5C36 21.5 40.5 22 43.5 25C40.5 29 35.5 30 31 28Z" />
    <path fill-rule="evenodd" d="M24 20C29 20 32.5 23 32.5 27.5C32.5 32 30.300 34.5 29.300 39C28.600 42.5 27 45.5 24 45.5S19.400 42.5 18.700 39C17.700 34.5 15.5 32 15.5 27.5C15.5 23 19 20 24 20ZM20 28a1.5 1.5 0 1 0 0 3a1.5 1.5 0 1 0 0-3ZM28 28a1.5 1.5 0 1 0 0 3a1.5 1.5 0 1 0 0-3ZM21.5 40.300C21.5 42.300 22.700 43.300 24 43.300S26.5 42.300 26.5 40.300Z" />
  </svg>`;
}

export function Spinner({ label = t("ui.loading") }) {
  return html`<span class="spinner" role="status" aria-label=${label}></span>`;
}

/**
 * @param {{kind?: "primary"|"danger"|"plain"|"", small?: boolean, wide?: boolean, icon?: string, busy?: boolean,
 *   class?: string, children?: Children, [attribute: string]: any}} props
 */
export function Button({ kind = "", small, wide, icon, busy, class: extra = "", children, ...rest }) {
  const classes = ["button", kind, small && "small", wide && "wide", extra].filter(Boolean).join(" ");
  return html`<button type="button" class=${classes} ...${rest} disabled=${rest.disabled || busy} aria-busy=${busy ? "true" : undefined}>
    ${busy ? html`<${Spinner} />` : icon && html`<${Icon} name=${icon} />`}${children}
  </button>`;
}

/**
 * A button with an icon alone. `label` is its name and its tooltip.
 * @param {{icon: string, label: string, small?: boolean, kind?: string, class?: string, [attribute: string]: any}} props
 */
export function IconButton({ icon, label, small, kind = "plain", class: extra = "", ...rest }) {
  const classes = ["button", "icon-only", kind, small && "small", extra].filter(Boolean).join(" ");
  return html`<button type="button" class=${classes} aria-label=${label} title=${label} ...${rest}><${Icon} name=${icon} /></button>`;
}

/**
 * A label, a control and what is wrong with it. `children` is a function: it gets the control's attributes.
 * @param {{label: string, hint?: string, problem?: string, children: (attributes: object) => any}} props
 */
export function Field({ label, hint, problem, children }) {
  const id = useId();
  const described = [hint && `${id}-hint`, problem && `${id}-problem`].filter(Boolean).join(" ");
  const attributes = { id, class: "input", "aria-describedby": described || undefined, "aria-invalid": problem ? "true" : undefined };
  return html`<div class="field">
    <label class="label" for=${id}>${label}</label>
    ${children(attributes)}
    ${hint && html`<span class="hint" id=${`${id}-hint`}>${hint}</span>`}
    ${problem && html`<span class="problem" id=${`${id}-problem`} role="alert">${problem}</span>`}
  </div>`;
}

/** @param {{label: string, hint?: string, checked: boolean, onChange: (checked: boolean) => void, disabled?: boolean}} props */
export function Check({ label, hint, checked, onChange, disabled }) {
  return html`<label class="check">
    <input type="checkbox" checked=${checked} disabled=${disabled} onChange=${(event) => onChange(event.currentTarget.checked)} />
    <span>${label}${hint && html`<br /><span class="muted small">${hint}</span>`}</span>
  </label>`;
}

/**
 * One choice of a few. Arrow keys move it.
 * @param {{label: string, value: any, options: {value: any, label: string, icon?: string}[], onChange: (value: any) => void}} props
 */
export function Segments({ label, value, options, onChange }) {
  const onKeyDown = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = options.findIndex((option) => option.value === value);
    const next = (at + step + options.length) % options.length;
    onChange(options[next].value);
    event.currentTarget.children[next].focus();
  };
  return html`<div class="segments" role="radiogroup" aria-label=${label} onKeyDown=${onKeyDown}>
    ${options.map((option) => html`<button type="button" role="radio" key=${option.value} aria-checked=${String(option.value === value)}
      tabindex=${option.value === value ? 0 : -1} onClick=${() => onChange(option.value)}>
      ${option.icon && html`<${Icon} name=${option.icon} />`}${option.label}</button>`)}
  </div>`;
}

/** @param {{icon?: string, title: string, children?: Children}} props what is not here yet, and what to do next */
export function Empty({ icon, title, children }) {
  return html`<div class="empty">${icon ? html`<${Icon} name=${icon} />` : html`<${Deer} size=${44} />`}<h3>${title}</h3>${children}</div>`;
}

/** @param {{kind?: "info"|"warning"|"danger", children: Children}} props */
export function Notice({ kind = "info", children }) {
  const icon = kind === "info" ? "info" : "warning";
  return html`<div class=${`notice ${kind}`} role=${kind === "danger" ? "alert" : undefined}><${Icon} name=${icon} /><div class="grow">${children}</div></div>`;
}

/**
 * A modal dialog. The browser keeps the focus inside, closes it at Escape, and gives the focus back.
 * @param {{title: string, onClose: () => void, wide?: boolean, class?: string, footer?: Children, children?: Children}} props
 */
export function Dialog({ title, onClose, wide, class: extra = "", footer, children }) {
  const ref = useRef(/** @type {HTMLDialogElement} */ (/** @type {any} */ (null)));
  const id = useId();
  useLayoutEffect(() => {
    const dialog = ref.current;
    const before = /** @type {HTMLElement|null} */ (document.activeElement);
    dialog.showModal();
    return () => {
      if (dialog.open) dialog.close();
      if (before?.isConnected) before.focus();
    };
  }, []);
  const onPointerDown = (event) => {
    if (event.target !== ref.current) return;
    const box = ref.current.getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!inside) onClose();
  };
  return html`<dialog ref=${ref} class=${["dialog", wide && "wide", extra].filter(Boolean).join(" ")} aria-labelledby=${id}
    onCancel=${(event) => { if (event.target !== ref.current) return; event.preventDefault(); onClose(); }} onPointerDown=${onPointerDown}>
    <header><h2 id=${id}>${title}</h2><${IconButton} icon="close" label=${t("ui.close")} onClick=${onClose} /></header>
    <div class="body">${children}</div>
    ${footer && html`<footer>${footer}</footer>`}
  </dialog>`;
}

/** @type {import("../vendor/signals.js").Signal<{id: number, render: (close: () => void) => any}[]>} */
const openDialogs = signal([]);
let lastId = 0;

/**
 * Show a dialog on top of what is open. `make` gets a function that closes it.
 * @param {(close: () => void) => any} make
 * @returns {() => void} closes it
 */
export function openDialog(make) {
  const id = ++lastId;
  const close = () => { openDialogs.value = openDialogs.value.filter((one) => one.id !== id); };
  openDialogs.value = [...openDialogs.value, { id, render: make }];
  return close;
}

/** Close all dialogs: what they show is the user's who has left. */
export function closeDialogs() {
  openDialogs.value = [];
}

/** The dialogs that `openDialog` and `confirm` have opened. Put it once into the page. */
export function Dialogs() {
  return openDialogs.value.map((one) => html`<${Fragment} key=${one.id}>${one.render(() => { openDialogs.value = openDialogs.value.filter((other) => other.id !== one.id); })}<//>`);
}

/**
 * Ask before something that cannot be undone.
 * @param {{title: string, text?: string, action: string, danger?: boolean}} question
 * @returns {Promise<boolean>}
 */
export function confirm({ title, text, action, danger = true }) {
  return new Promise((resolve) => {
    openDialog((close) => {
      const end = (answer) => { close(); resolve(answer); };
      return html`<${Dialog} title=${title} onClose=${() => end(false)} footer=${html`
        <${Button} onClick=${() => end(false)}>${t("ui.cancel")}<//>
        <${Button} kind=${danger ? "danger" : "primary"} onClick=${() => end(true)}>${action}<//>`}>
        ${text && html`<p>${text}</p>`}
      <//>`;
    });
  });
}

/**
 * A button that opens a menu. Arrow keys, Home, End and first letters move in it; Escape closes it.
 * An item is {label, icon?, hint?, danger?, checked?, onSelect} or {href}, or "line".
 * @param {{label: string, icon?: string, items: any[], small?: boolean, kind?: string, class?: string, children?: Children,
 *   [attribute: string]: any}} props
 */
export function Menu({ label, icon = "more", items, small, kind = "plain", class: extra = "", children, ...rest }) {
  const [open, setOpen] = useState(false);
  const button = useRef(/** @type {HTMLButtonElement} */ (/** @type {any} */ (null)));
  const list = useRef(/** @type {HTMLElement} */ (/** @type {any} */ (null)));

  useLayoutEffect(() => {
    if (!open) return undefined;
    const menu = list.current;
    const shut = () => setOpen(false);
    menu.showPopover();
    placeMenu(menu, button.current);
    /** @type {HTMLElement|null} */ (menu.querySelector("[role^=menuitem]"))?.focus();
    const onToggle = (event) => { if (event.newState === "closed") shut(); };
    menu.addEventListener("toggle", onToggle);
    addEventListener("resize", shut);
    return () => {
      menu.removeEventListener("toggle", onToggle);
      removeEventListener("resize", shut);
    };
  }, [open]);

  const close = () => {
    setOpen(false);
    button.current?.focus();
  };
  const onKeyDown = (event) => {
    const entries = /** @type {HTMLElement[]} */ ([...list.current.querySelectorAll("[role^=menuitem]")]);
    const at = entries.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const move = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: entries.length - 1 }[event.key];
    if (move !== undefined) entries[(move + entries.length) % entries.length].focus();
    else if (event.key === "Escape" || event.key === "Tab") close();
    else if (event.key.length === 1) entries.find((entry) => entry.textContent.trim().toLowerCase().startsWith(event.key.toLowerCase()))?.focus();
    if (event.key !== "Tab" && event.key !== "Enter" && event.key !== " ") event.preventDefault();
    event.stopPropagation();
  };
  const select = (item) => { close(); item.onSelect?.(); };
  const classes = ["button", !children && "icon-only", kind, small && "small", extra].filter(Boolean).join(" ");
  return html`<button type="button" ref=${button} class=${classes} aria-haspopup="menu" aria-expanded=${String(open)}
      aria-label=${children ? undefined : label} title=${children ? undefined : label} ...${rest}
      onClick=${(event) => { event.stopPropagation(); setOpen(!open); }}>${children ?? html`<${Icon} name=${icon} />`}</button>
    ${open && html`<div class="menu" role="menu" aria-label=${label} popover="auto" ref=${list} onKeyDown=${onKeyDown} onClick=${(event) => event.stopPropagation()}>
      ${items.filter(Boolean).map((item, index) => {
        if (item === "line") return html`<hr key=${index} role="separator" />`;
        const inside = html`${item.icon && html`<${Icon} name=${item.icon} />`}<span class="grow">${item.label}${item.hint && html`<small>${item.hint}</small>`}</span>${item.checked && html`<${Icon} name="check" />`}`;
        if (item.href) return html`<a key=${index} role="menuitem" tabindex="-1" href=${item.href} target=${item.target} rel=${item.target ? "noopener" : undefined} onClick=${close}>${inside}</a>`;
        const role = item.checked === undefined ? "menuitem" : "menuitemradio";
        return html`<button type="button" key=${index} role=${role} aria-checked=${item.checked === undefined ? undefined : String(item.checked)}
          tabindex="-1" class=${item.danger ? "danger" : ""} disabled=${item.disabled} onClick=${() => select(item)}>${inside}</button>`;
      })}
    </div>`}`;
}

/** Put a menu below its button, or above it where there is more room. */
function placeMenu(menu, button) {
  const from = button.getBoundingClientRect();
  const box = menu.getBoundingClientRect();
  const below = innerHeight - from.bottom - 8;
  const top = box.height <= below || below > from.top ? from.bottom + 4 : Math.max(8, from.top - box.height - 4);
  const left = from.left + box.width + 8 <= innerWidth ? from.left : Math.max(8, from.right - box.width);
  menu.style.top = `${top}px`;
  menu.style.left = `${left}px`;
}

/** @type {import("../vendor/signals.js").Signal<{id: number, text: string, action?: {label: string, run: () => void}}[]>} */
const toasts = signal([]);

/**
 * Say something for some seconds. Screen readers read it.
 * @param {string} text
 * @param {{action?: {label: string, run: () => void}, seconds?: number}} [options]
 */
export function toast(text, { action, seconds = 6 } = {}) {
  const id = ++lastId;
  toasts.value = [...toasts.value.slice(-2).filter((one) => one.text !== text), { id, text, action }];
  setTimeout(() => { toasts.value = toasts.value.filter((one) => one.id !== id); }, seconds * 1000);
}

/** The toasts. Put it once into the page. It stays above open dialogs. */
export function Toasts() {
  const ref = useRef(/** @type {HTMLElement} */ (/** @type {any} */ (null)));
  const count = toasts.value.length;
  useLayoutEffect(() => {
    const frame = ref.current;
    // Open it again, so that it comes above a dialog that opened since.
    if (frame.matches(":popover-open")) frame.hidePopover();
    if (count) frame.showPopover();
  }, [count, openDialogs.value.length]);
  return html`<div class="toasts" popover="manual" ref=${ref} role="status" aria-live="polite">
    ${toasts.value.map((one) => html`<div class="toast" key=${one.id}><span class="grow">${one.text}</span>
      ${one.action && html`<${Button} small onClick=${() => { dismiss(one.id); one.action?.run(); }}>${one.action.label}<//>`}
      <${IconButton} small icon="close" label=${t("ui.close")} onClick=${() => dismiss(one.id)} /></div>`)}
  </div>`;
}

function dismiss(id) {
  toasts.value = toasts.value.filter((one) => one.id !== id);
}

/** Read something to screen readers without showing it. */
export const announcement = signal("");
/** @param {string} text */
export function announce(text) {
  announcement.value = text;
}
/** The live region of `announce`. Put it once into the page. */
export function Announcer() {
  return html`<div class="hidden-text" role="status" aria-live="polite">${announcement.value}</div>`;
}

/**
 * Copy a text to the clipboard.
 * @param {string} text
 */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(t("ui.copied"), { seconds: 2 });
  } catch {
    toast(t("ui.copy_failed"));
  }
}

/**
 * Hand a text to the user as a file.
 * @param {string} name
 * @param {string|Blob} content
 * @param {string} [type]
 */
export function saveFile(name, content, type = "text/plain") {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

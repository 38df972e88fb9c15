/** The list of chats, and what belongs to the user. */
import { Button, Deer, Icon, IconButton, Menu, confirm, html, saveFile, toast, useLayoutEffect, useRef } from "../shared/ui.js";
import { request, showError, signOut, user } from "../shared/session.js";
import { t } from "../shared/text.js";
import { WindowedList } from "../shared/list.js";
import { lives } from "./live.js";
import { changeChat, chats, deleteChat, filter, go, listState, loadChats, loadMoreChats, pinned, route, sidebarOpen } from "./state.js";

const ROW = 40;
const narrow = () => !matchMedia("(min-width: 860px)").matches;

/** Open a dialog that is loaded when it is needed. @param {string} name @param {any[]} rest */
export const openLater = (name, ...rest) => import("./dialogs.js").then((module) => module[name](...rest)).catch(showError);

/** @param {import("./state.js").Chat} chat */
export function titleOf(chat) {
  return chat.title || t("chat.untitled");
}

/** The actions on a chat: in the list, and above the open chat. @param {import("./state.js").Chat} chat */
export function chatActions(chat) {
  const change = (changes, done) => changeChat(chat.id, changes).then(() => { if (done) toast(done); }, showError);
  return [
    { label: t(chat.pinned ? "chat.unpin" : "chat.pin"), icon: "pin", onSelect: () => change({ pinned: !chat.pinned }) },
    { label: t("chat.rename"), icon: "edit", onSelect: () => openLater("openRename", chat) },
    { label: t("chat.tags"), icon: "tag", onSelect: () => openLater("openTags", chat) },
    { label: t("chat.share"), icon: "share", onSelect: () => openLater("openShare", chat) },
    { label: t("chat.export_markdown"), icon: "download", onSelect: () => exportChat(chat, "markdown") },
    { label: t("chat.export_json"), icon: "download", onSelect: () => exportChat(chat, "json") },
    { label: t(chat.archived ? "chat.unarchive" : "chat.archive"), icon: "archive", onSelect: () => change({ archived: !chat.archived }, t(chat.archived ? "chat.unarchived" : "chat.archived")) },
    "line",
    {
      label: t("chat.delete"), icon: "trash", danger: true,
      onSelect: async () => {
        if (await confirm({ title: t("chat.delete_title"), text: t("chat.delete_text", { title: titleOf(chat) }), action: t("chat.delete") })) deleteChat(chat.id).catch(showError);
      },
    },
  ];
}

/** Save a chat as a file. A long chat is several files. @param {import("./state.js").Chat} chat @param {"markdown"|"json"} format */
async function exportChat(chat, format) {
  try {
    const name = titleOf(chat).replace(/[\s\\/:*?"<>|\u0000-\u001f]+/g, " ").trim().slice(0, 60) || "chat";
    let path = `/chats/${chat.id}/export?format=${format}`;
    for (let part = 1; path; part++) {
      const { headers, data } = await request("GET", path);
      const next = /<([^>]+)>;\s*rel="?next"?/.exec(headers.get("Link") ?? "")?.[1];
      const suffix = next || part > 1 ? ` ${part}` : "";
      const content = typeof data === "string" || data instanceof Blob ? data : JSON.stringify(data, null, 2);
      saveFile(`${name}${suffix}.${format === "json" ? "json" : "md"}`, content, format === "json" ? "application/json" : "text/markdown");
      path = next ? next.replace(/^.*\/api\/v1/, "") : "";
    }
  } catch (error) {
    showError(error);
  }
}

/** Group the chats by the day of their last change. @returns {any[]} */
function listRows() {
  const rows = /** @type {any[]} */ ([]);
  if (pinned.value.length && !filter.value.archived && !filter.value.tag) {
    rows.push({ kind: "head", key: "head pinned", text: t("sidebar.pinned") });
    for (const chat of pinned.value) rows.push({ kind: "chat", key: `pinned ${chat.id}`, chat });
  }
  let last = "";
  for (const chat of chats.value) {
    if (chat.pinned && !filter.value.archived && !filter.value.tag) continue;
    const group = groupOf(chat.update_time);
    if (group !== last) rows.push({ kind: "head", key: `head ${group}`, text: group });
    last = group;
    rows.push({ kind: "chat", key: chat.id, chat });
  }
  return rows;
}

/** @param {string} time */
function groupOf(time) {
  const days = Math.floor((new Date().setHours(0, 0, 0, 0) - new Date(time).setHours(0, 0, 0, 0)) / 86_400_000 + 0.5);
  if (days <= 0) return t("sidebar.today");
  if (days === 1) return t("sidebar.yesterday");
  if (days < 7) return t("sidebar.week");
  if (days < 30) return t("sidebar.month");
  return t("sidebar.older");
}

/** @param {{chat: import("./state.js").Chat}} props */
function ChatRow({ chat }) {
  const open = route.value.name === "chat" && route.value.id === chat.id;
  const live = lives.value.get(chat.id);
  const answering = live ? live.phase.value !== "failed" : Boolean(chat.active_task);
  const click = (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    go({ name: "chat", id: chat.id });
    if (narrow()) sidebarOpen.value = false;
  };
  return html`<div class=${`chat-row ${open ? "open" : ""}`}>
    <a href=${`#/chat/${chat.id}`} aria-current=${open ? "page" : undefined} title=${titleOf(chat)} onClick=${click}><span class="clip">${titleOf(chat)}</span>
      ${answering && html`<span class="dot" role="img" aria-label=${t("sidebar.answering")}></span>`}</a>
    <${Menu} small label=${t("sidebar.actions", { title: titleOf(chat) })} items=${chatActions(chat)} />
  </div>`;
}

const renderRow = (row) => (row.kind === "head" ? html`<h3 class="list-head">${row.text}</h3>` : html`<${ChatRow} chat=${row.chat} />`);

/** Up and down move between the chats. */
function onListKey(event) {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const links = [...event.currentTarget.querySelectorAll(".chat-row > a")];
  const at = links.indexOf(document.activeElement);
  if (at < 0) return;
  event.preventDefault();
  links[at + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
}

function FilterMenu() {
  const { tag, archived } = filter.value;
  const tags = [...new Set([...chats.value, ...pinned.value].flatMap((one) => one.tags ?? []))].sort().slice(0, 30);
  const set = (changes) => {
    filter.value = { ...filter.value, ...changes };
    chats.value = [];
    loadChats();
  };
  const items = [
    { label: t("sidebar.all"), icon: "chat", checked: !archived && !tag, onSelect: () => set({ tag: null, archived: false }) },
    { label: t("sidebar.archived"), icon: "archive", checked: archived, onSelect: () => set({ tag: null, archived: true }) },
    tags.length || tag ? "line" : null,
    ...[...new Set([...(tag ? [tag] : []), ...tags])].map((one) => ({ label: one, icon: "tag", checked: one === tag, onSelect: () => set({ tag: one === tag ? null : one, archived: false }) })),
  ];
  return html`<${Menu} small icon="filter" label=${t("sidebar.filter")} items=${items} class=${tag || archived ? "on" : ""} />`;
}

/** @param {{size?: number}} props */
export function Avatar({ size = 28 }) {
  const me = user.value;
  const style = { width: `${size}px`, height: `${size}px` };
  if (me?.avatar_url) return html`<img class="avatar" src=${new URL(me.avatar_url, location.href).pathname} alt="" style=${style} />`;
  return html`<span class="avatar letter" style=${style} aria-hidden="true">${[...(me?.nickname ?? "?")][0]?.toUpperCase()}</span>`;
}

export function Sidebar() {
  const open = sidebarOpen.value;
  const frame = useRef(/** @type {HTMLElement} */ (/** @type {any} */ (null)));
  const me = user.value;
  const state = listState.value;
  useLayoutEffect(() => {
    if (!open || !narrow()) return undefined;
    const onKey = (event) => { if (event.key === "Escape") sidebarOpen.value = false; };
    addEventListener("keydown", onKey);
    /** @type {HTMLElement|null} */ (frame.current?.querySelector("button"))?.focus();
    return () => removeEventListener("keydown", onKey);
  }, [open]);
  const startNew = () => {
    go({ name: "new" });
    if (narrow()) sidebarOpen.value = false;
  };
  const openConnect = () => {
    go({ name: "connect" });
    if (narrow()) sidebarOpen.value = false;
  };
  const rows = listRows();
  const { tag, archived } = filter.value;
  return html`
    ${open && html`<div class="drawer-veil" onClick=${() => { sidebarOpen.value = false; }}></div>`}
    <nav ref=${frame} class=${`sidebar ${open ? "open" : ""}`} aria-label=${t("sidebar.label")} inert=${!open}>
      <header class="row between">
        <a class="brand" href="#/" onClick=${(event) => { event.preventDefault(); startNew(); }}><${Deer} size=${26} /><span>AIDeer</span></a>
        <${IconButton} icon="sidebar" label=${t("sidebar.hide")} onClick=${() => { sidebarOpen.value = false; }} />
      </header>
      <div class="sidebar-actions">
        <${Button} wide icon="plus" onClick=${startNew}>${t("sidebar.new")}<//>
        <div class="row">
          <button type="button" class="search-button grow" onClick=${() => openLater("openSearch")}><${Icon} name="search" /><span class="grow clip">${t("search.title")}</span><kbd aria-hidden="true">${/Mac|iPhone|iPad/.test(navigator.platform) ? "⌘K" : "Ctrl K"}</kbd></button>
          <${FilterMenu} />
        </div>
        ${(tag || archived) && html`<p class="row between small"><span class="badge accent"><${Icon} name=${tag ? "tag" : "archive"} />${tag ?? t("sidebar.archived")}</span>
          <button type="button" class="text-button" onClick=${() => { filter.value = { tag: null, archived: false }; chats.value = []; loadChats(); }}>${t("sidebar.show_all")}</button></p>`}
      </div>
      <div class="chat-list" onKeyDown=${onListKey}>
        ${rows.length ? html`<${WindowedList} items=${rows} keyOf=${(row) => row.key} estimate=${(row) => (row.kind === "head" ? 36 : ROW)} renderItem=${renderRow} role="list" itemRole="listitem" label=${t("sidebar.chats")} onEnd=${loadMoreChats} />`
          : state === "ready" ? html`<p class="list-empty muted small">${t(tag || archived ? "sidebar.none_fit" : "sidebar.none")}</p>`
          : state === "failed" ? html`<p class="list-empty"><${Button} small icon="again" onClick=${loadChats}>${t("ui.retry")}<//></p>`
          : html`<div class="list-loading" aria-hidden="true"><i></i><i></i><i></i><i></i></div>`}
      </div>
      <footer>
        <${Menu} label=${t("sidebar.account")} class="account" items=${[
          { label: t("credits.title"), icon: "coin", onSelect: () => openLater("openCredits") },
          { label: t("presets.title"), icon: "grid", onSelect: () => import("./presets.js").then((module) => module.openPresets()) },
          { label: t("sidebar.connect"), icon: "key", onSelect: openConnect },
          { label: t("settings.title"), icon: "settings", onSelect: () => openLater("openSettings") },
          me?.permission === 2 ? { label: t("sidebar.console"), icon: "chart", href: "/admin" } : null,
          "line",
          { label: t("session.out"), icon: "leave", onSelect: () => signOut().catch(showError) },
        ]}><span class="hidden-text">${t("sidebar.account")}: </span><${Avatar} /><span class="grow who"><span class="clip">${me?.nickname ?? ""}</span><span class="muted small number clip">${t("credits.amount", { credits: me?.credits_left ?? 0 })}</span></span><${Icon} name="more" /><//>
      </footer>
    </nav>`;
}


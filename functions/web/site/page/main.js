/** The chat page: starts, and puts its parts together. */
import { Announcer, Button, Deer, Dialogs, Empty, Icon, IconButton, Menu, Notice, Spinner, Toasts, closeDialogs, effect, html, render, signal, useEffect } from "../shared/ui.js";
import { addTexts, t } from "../shared/text.js";
import { SignIn, config, explain, loadConfig, loadUser, redeemTicket, showError, signedIn, user } from "../shared/session.js";
import { Composer } from "./composer.js";
import { ask, followActive, leaveAll, liveOf, repeatAsking, showChat } from "./live.js";
import { loadSettings } from "./settings.js";
import { Sidebar, chatActions, openLater, titleOf } from "./sidebar.js";
import { forgetDrafts } from "./drafts.js";
import { chat, chats, chosenPreset, closeChat, currentPreset, dropChat, forgetAll, go, listState, loadChats, loadPresets, onNews, presets, refreshChat, refreshChats, route, sidebarOpen } from "./state.js";
import { Thread } from "./thread.js";

/** Why the page cannot start. */
const failure = signal("");
const online = signal(navigator.onLine);
/** @type {import("../vendor/signals.js").Signal<any>} The page for a shared link, loaded when it is needed. */
const SharedChat = signal(null);
/** @type {import("../vendor/signals.js").Signal<any>} The page Connect, loaded when it is opened. */
const Connect = signal(null);
const connectFailed = signal(false);
let userId = "";

addEventListener("online", () => { online.value = true; });
addEventListener("offline", () => { online.value = false; });

const SUGGESTIONS = ["explain", "write", "code", "plan"];

/** What a new chat shows: what to do next. */
function Welcome() {
  const preset = currentPreset();
  const send = (text) => {
    const question = { role: "user", type: "text", content: text };
    ask({ chat: { preset_id: preset.id, auto_title: true }, messages: [question] }, { kind: "ask", questions: [{ ...question, create_time: new Date().toISOString() }] });
  };
  const shown = (presets.value ?? []).filter((one) => one.id !== preset?.id).slice(0, 3);
  return html`<div class="welcome"><div class="welcome-inside">
    <${Deer} size=${52} />
    <h1>${t("welcome.title", { name: user.value?.nickname ?? "" })}</h1>
    <p class="muted">${preset?.description ?? t("welcome.text")}</p>
    ${preset ? html`<ul class="suggestions">${SUGGESTIONS.map((name) => html`<li key=${name}><button type="button" class="suggestion" onClick=${() => send(t(`welcome.${name}_question`))}>
        <strong>${t(`welcome.${name}`)}</strong><span class="muted">${t(`welcome.${name}_question`)}</span></button></li>`)}</ul>`
      : presets.value && html`<${Notice} kind="warning">${t("welcome.no_preset")}<//>`}
    <p class="row wrap center">
      ${shown.map((one) => html`<${Button} key=${one.id} small kind="plain" icon="sparkle" onClick=${() => { chosenPreset.value = one.id; }}>${one.title}<//>`)}
      <${Button} small kind="plain" icon="grid" onClick=${() => import("./presets.js").then((module) => module.openPresets())}>${t("presets.browse")}<//>
    </p>
  </div></div>`;
}

function TopBar() {
  const open = chat.value;
  return html`<header class="top-bar">
    ${!sidebarOpen.value && html`<${IconButton} icon="sidebar" label=${t("sidebar.show")} onClick=${() => { sidebarOpen.value = true; }} />
      <${IconButton} icon="edit" label=${t("sidebar.new")} onClick=${() => go({ name: "new" })} />`}
    ${route.value.name === "connect" ? html`<p class="clip grow title">${t("sidebar.connect")}</p>` : open ? html`<h1 class="clip grow title">${titleOf(chats.value.find((one) => one.id === open.id) ?? open)}</h1>` : html`<p class="clip grow title">${route.value.name === "new" ? t("sidebar.new") : ""}</p>`}
    ${open && route.value.name !== "connect" && html`${open.tags?.slice(0, 2).map((tag) => html`<span key=${tag} class="badge wide-only">${tag}</span>`)}
      <${IconButton} icon="share" label=${t("chat.share")} onClick=${() => openLater("openShare", open)} />
      <${Menu} label=${t("chat.actions")} items=${chatActions(open)} />`}
  </header>`;
}

function Announcement() {
  const news = config.value?.announcement;
  const closed = useClosed(news?.text);
  if (!news || closed.value) return null;
  const kind = { info: "info", warning: "warning", critical: "danger" }[news.level] ?? "info";
  return html`<div class="banner"><${Notice} kind=${kind}><div class="row between"><span>${news.text}</span><${IconButton} small icon="close" label=${t("ui.close")} onClick=${() => closed.close()} /></div><//></div>`;
}

const closedNews = signal(sessionStorage.getItem("aideer.closed_news") ?? "");
/** @param {string|undefined} text */
function useClosed(text) {
  return {
    value: closedNews.value === text,
    close() {
      closedNews.value = text ?? "";
      sessionStorage.setItem("aideer.closed_news", text ?? "");
    },
  };
}

function loadConnect() {
  connectFailed.value = false;
  import("./connect.js").then((module) => { Connect.value = module.Connect; }, () => { connectFailed.value = true; });
}
effect(() => { if (route.value.name === "connect" && user.value && !Connect.peek()) loadConnect(); });

function ConnectPlace() {
  if (Connect.value) return html`<${Connect.value} />`;
  return html`<div class="thread-empty">${connectFailed.value ? html`<${Empty} icon="offline" title=${t("error.network")}><${Button} icon="again" onClick=${loadConnect}>${t("ui.retry")}<//><//>` : html`<${Spinner} />`}</div>`;
}

function Chat() {
  const now = route.value;
  useEffect(() => {
    if (now.name === "chat") showChat(now.id, now.n);
    else closeChat();
  }, [now.name, /** @type {any} */ (now).id, /** @type {any} */ (now).n]);
  const isNew = now.name === "new" && !chat.value;
  const asking = isNew && Boolean(liveOf(null));
  const connects = now.name === "connect";
  const skip = (event) => {
    event.preventDefault();
    /** @type {HTMLElement|null} */ (document.querySelector(connects ? "[data-heading]" : ".question-field"))?.focus();
  };
  return html`<div class=${`page ${sidebarOpen.value ? "with-sidebar" : ""}`}>
    <a class="skip-link" href="#question" onClick=${skip}>${t(connects ? "page.skip_content" : "page.skip")}</a>
    <${Sidebar} />
    <main class="main">
      <${TopBar} />
      <${Announcement} />
      ${!online.value && html`<div class="banner" role="status"><${Notice} kind="warning">${t("error.offline")}<//></div>`}
      ${connects ? html`<${ConnectPlace} />` : html`${isNew && !asking ? html`<${Welcome} />` : html`<${Thread} />`}<${Composer} />`}
    </main>
  </div>`;
}

function Entrance() {
  return html`<main class="entrance">
    <section class="pitch">
      <${Deer} size=${64} />
      <h2>${t("entrance.title")}</h2>
      <p>${t("entrance.text")}</p>
      <div class="sample" aria-hidden="true">
        <div class="bubble">${t("entrance.question")}</div>
        <p>${t("entrance.answer")}<i class="caret"></i></p>
        <p class="muted small number row"><${Icon} name="coin" />${t("entrance.bill")}</p>
      </div>
    </section>
    <${SignIn} />
  </main>`;
}

function App() {
  let inside;
  if (route.value.name === "shared") inside = SharedChat.value ? html`<${SharedChat.value} token=${route.value.token} />` : html`<div class="starting"><${Spinner} /></div>`;
  else if (failure.value) {
    inside = html`<main class="starting"><${Deer} size=${48} /><p>${failure.value}</p><${Button} kind="primary" icon="again" onClick=${() => { failure.value = ""; start(); }}>${t("ui.retry")}<//></main>`;
  } else if (!config.value || (signedIn.value && !user.value)) inside = html`<div class="starting"><${Spinner} /></div>`;
  else inside = signedIn.value ? html`<${Chat} />` : html`<${Entrance} />`;
  return html`${inside}<${Dialogs} /><${Toasts} /><${Announcer} />`;
}

/** Read what the page begins with. */
async function start() {
  try {
    if (route.value.name === "shared") {
      const [module] = await Promise.all([import("./shared-chat.js"), loadConfig().catch(() => {})]);
      SharedChat.value = module.SharedChat;
      return;
    }
    await redeemTicket();
    await Promise.all([loadConfig(), signedIn.value && !user.value ? loadUser().catch((error) => { if (signedIn.value) throw error; }) : null]);
  } catch (error) {
    failure.value = explain(error);
  }
}

/** Somebody signed in or out, here or in another tab. */
effect(() => {
  const id = user.value?.id ?? "";
  if (id === userId) return;
  const before = userId;
  userId = id;
  queueMicrotask(() => {
    if (before) {
      leaveAll();
      forgetAll();
      forgetDrafts();
      closeDialogs();
      // The next one comes to the same page, but never to the chat of another one.
      if (!id && route.value.name !== "connect") go({ name: "new" }, { replace: true });
    }
    if (!id) return;
    loadChats();
    loadPresets().catch(showError);
    loadSettings().catch(() => {});
    repeatAsking();
  });
});
effect(() => {
  if (signedIn.value && config.value && !user.value && !failure.value) loadUser().catch((error) => { if (signedIn.peek()) failure.value = explain(error); });
});

/** Take over what other tabs and devices did. */
function catchUp() {
  if (document.hidden || !user.value || listState.value !== "ready") return;
  refreshChats();
  refreshChat().then(followActive);
  loadUser().catch(() => {});
}
let lastCatchUp = 0;
const catchUpSometimes = () => {
  if (Date.now() - lastCatchUp < 5000) return;
  lastCatchUp = Date.now();
  catchUp();
};
addEventListener("focus", catchUpSometimes);
addEventListener("online", () => setTimeout(catchUp, 500));
document.addEventListener("visibilitychange", catchUpSometimes);
setInterval(() => { if (!document.hidden) catchUpSometimes(); }, 60_000);
onNews((news) => {
  if (news.kind === "user") loadUser().catch(() => {});
  else if (news.kind === "deleted" && news.id) {
    dropChat(news.id);
    if (chat.value?.id === news.id) go({ name: "new" }, { replace: true });
  } else {
    refreshChats();
    if (news.id && chat.value?.id === news.id) refreshChat().then(followActive);
  }
});

addEventListener("keydown", (event) => {
  if (!user.value || event.altKey) return;
  const command = event.metaKey || event.ctrlKey;
  if (command && !event.shiftKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    if (!document.querySelector("dialog[open]")) openLater("openSearch");
  } else if (command && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    go({ name: "new" });
  }
});

effect(() => {
  const open = chat.value;
  const title = open ? chats.value.find((one) => one.id === open.id)?.title ?? open.title : "";
  if (route.value.name === "connect") document.title = `${t("sidebar.connect")} · AIDeer`;
  else document.title = title ? `${title} · AIDeer` : "AIDeer";
});

await addTexts({ en: () => import("../shared/text-en.js"), zh: () => import("../shared/text-zh.js") });
render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
await start();

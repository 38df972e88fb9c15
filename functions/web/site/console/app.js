/**
 * The console for administrators: the frame around its pages, and the sign-in before it. Each page is loaded when it is opened.
 */
import { addTexts, language, languageSetting, setLanguage, t } from "../shared/text.js";
import { SignIn, explain, loadConfig, loadUser, signOut, signedIn, user } from "../shared/session.js";
import { Announcer, Button, Deer, Dialogs, Empty, Icon, Menu, Notice, Spinner, Toasts, effect, html, render, signal, useEffect, useLayoutEffect, useState } from "../shared/ui.js";
import { reason } from "./calls.js";
import { TextField } from "./parts.js";
import { address, route } from "./routes.js";

const ADMIN = 2;
const THEME = "aideer.theme";

/** @type {Record<string, {icon: string, load: () => Promise<{default: any}>}>} */
const PAGES = {
  overview: { icon: "chart", load: () => import("./overview.js") },
  users: { icon: "users", load: () => import("./users.js") },
  codes: { icon: "ticket", load: () => import("./codes.js") },
  presets: { icon: "grid", load: () => import("./presets.js") },
  models: { icon: "coin", load: () => import("./models.js") },
  announcement: { icon: "mail", load: () => import("./announcement.js") },
  feedback: { icon: "up", load: () => import("./feedback.js") },
  reconciliation: { icon: "check", load: () => import("./reconciliation.js") },
  letters: { icon: "warning", load: () => import("./letters.js") },
  audit: { icon: "shield", load: () => import("./audit.js") },
};
const GROUPS = [["overview", "users", "codes"], ["presets", "models", "announcement"], ["feedback", "reconciliation", "letters", "audit"]];

/** Why the first loads failed, if they did. */
const failure = signal(/** @type {any} */ (null));
const theme = signal(/** @type {string} */ (readTheme()));

function readTheme() {
  try { return localStorage.getItem(THEME) ?? "auto"; } catch { return "auto"; }
}

effect(() => {
  const root = document.documentElement;
  if (theme.value === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme.value;
  try {
    if (theme.value === "auto") localStorage.removeItem(THEME);
    else localStorage.setItem(THEME, theme.value);
  } catch { /* without storage, the setting lasts until the page is closed */ }
});

function App() {
  useEffect(() => { if (signedIn.value && !user.value) begin(); }, [signedIn.value]);
  return html`<${Body} /><${Dialogs} /><${Toasts} /><${Announcer} />`;
}

function Body() {
  if (!signedIn.value) {
    return html`<main class="gate"><${SignIn} onlySignIn title=${t("console.title")} text=${t("console.sign_in_text")} /></main>`;
  }
  if (failure.value) {
    return html`<main class="gate"><${Notice} kind="danger"><div class="stack tight"><p>${explain(failure.value)}</p>
      <div class="row"><${Button} small icon="again" onClick=${begin}>${t("ui.retry")}<//><${Button} small onClick=${signOut}>${t("console.sign_out")}<//></div></div><//></main>`;
  }
  if (!user.value) return html`<main class="gate"><${Spinner} /></main>`;
  if (user.value.permission < ADMIN) {
    return html`<main class="gate"><${Empty} icon="shield" title=${t("console.not_admin")}><p>${t("console.not_admin_text", { name: user.value.nickname })}</p>
      <div class="row"><a class="button" href="/">${t("console.to_chat")}</a><${Button} kind="primary" onClick=${signOut}>${t("console.other_account")}<//></div><//></main>`;
  }
  return html`<${Frame} />`;
}

function Frame() {
  const page = route.value.page in PAGES ? route.value.page : "overview";
  return html`<div class="frame">
    <a class="skip-link" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>${t("console.skip")}</a>
    <aside class="side">
      <a class="brand" href="#/overview"><${Deer} size=${26} /><span>AIDeer</span><span class="badge">${t("console.title")}</span></a>
      <nav aria-label=${t("console.pages")}>
        ${GROUPS.map((names) => html`<ul key=${names[0]}>${names.map((name) => html`<li key=${name}><a href=${address([name])} aria-current=${name === page ? "page" : undefined}>
          <${Icon} name=${PAGES[name].icon} />${t(`console.page.${name}`)}</a></li>`)}</ul>`)}
      </nav>
      <div class="side-foot stack tight">
        <${Reason} />
        <${Account} />
      </div>
    </aside>
    <header class="top">
      <${Menu} icon="menu" label=${t("console.pages")} items=${GROUPS.flatMap((names, index) => [index > 0 && "line", ...names.map((name) => ({ label: t(`console.page.${name}`), icon: PAGES[name].icon, href: address([name]) }))])} />
      <a class="brand grow" href="#/overview"><${Deer} size=${24} /><span>AIDeer</span><span class="badge">${t("console.title")}</span></a>
      <${Account} small />
    </header>
    <main id="main" tabindex="-1"><${Page} key=${page} name=${page} /><div class="phone-reason"><${Reason} /></div></main>
  </div>`;
}

/** Every look and every action at something of another user carries this reason. */
function Reason() {
  return html`<${TextField} label=${t("console.reason")} hint=${t("console.reason_hint")} maxlength=${200} value=${reason.value} onChange=${(value) => { reason.value = value; }} />`;
}

function leave() {
  reason.value = "";
  signOut();
}

/** @param {{small?: boolean}} props */
function Account({ small }) {
  const me = user.value;
  if (!me) return null;
  const choose = (value, label, icon) => ({ label, icon, checked: theme.value === value, onSelect: () => { theme.value = value; } });
  const speak = (value, label) => ({ label, checked: languageSetting.value === value, onSelect: () => setLanguage(value) });
  const items = [
    choose("auto", t("console.theme_auto"), "device"), choose("light", t("console.theme_light"), "sun"), choose("dark", t("console.theme_dark"), "moon"),
    "line", speak("auto", t("console.language_auto")), speak("en", "English"), speak("zh", "中文"),
    "line", { label: t("console.to_chat"), icon: "chat", href: "/" }, { label: t("console.sign_out"), icon: "leave", onSelect: leave },
  ];
  return html`<${Menu} label=${t("console.account")} items=${items} icon="user" class=${small ? "" : "account"}>${small ? undefined
    : html`<${Icon} name="user" /><span class="grow clip">${me.nickname}</span><${Icon} name="chevron-down" />`}<//>`;
}

/** @param {{name: string}} props */
function Page({ name }) {
  const [view, setView] = useState(/** @type {{default: any}|null} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const load = () => { setError(null); PAGES[name].load().then(setView, setError); };
  useEffect(load, []);
  const place = [name, ...route.value.parts].join("/");
  useEffect(() => {
    document.title = `${t(`console.page.${name}`)} · AIDeer`;
  }, [place, language.value]);
  useLayoutEffect(() => {
    if (!view) return;
    scrollTo(0, 0);
    // A screen reader says where it is now. The first page is said by the browser itself. A person who types already is left alone.
    const types = document.activeElement?.matches("main form :is(input, textarea, select)");
    if (moved && !types) /** @type {HTMLElement|null} */ (document.querySelector("[data-heading]"))?.focus();
    moved = true;
  }, [view, place]);
  if (error) return html`<${Notice} kind="danger"><div class="row wrap between"><span>${t("error.network")}</span><${Button} small onClick=${load}>${t("ui.retry")}<//></div><//>`;
  if (!view) return html`<div class="waiting"><${Spinner} /></div>`;
  return html`<${view.default} key=${place} parts=${route.value.parts} query=${route.value.query} />`;
}
let moved = false;

async function begin() {
  failure.value = null;
  try {
    await Promise.all([loadUser(), loadConfig()]);
  } catch (error) {
    failure.value = error;
  }
}

await Promise.all([
  addTexts({ en: () => import("../shared/text-en.js"), zh: () => import("../shared/text-zh.js") }),
  addTexts({ en: () => import("./text-en.js"), zh: () => import("./text-zh.js") }),
]);
if (!signedIn.value) loadConfig().catch(() => {}); // the sign-in works without it
render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));

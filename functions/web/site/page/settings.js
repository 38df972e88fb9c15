/** The user's settings: in this browser at once, and in the account for other devices. */
import { signal } from "../shared/ui.js";
import { request, user } from "../shared/session.js";
import { languageSetting, setLanguage } from "../shared/text.js";

const THEME = "aideer.theme";
const PATH = "/users/me/settings";
const ATTEMPTS = 4;

/** How many changes were made here. What is read after a change was perhaps stored before it. */
let changed = 0;
/** The change that is stored now, and those behind it. @type {Promise<void>} */
let storing = Promise.resolve();

function keptTheme() {
  try { return localStorage.getItem(THEME) ?? "auto"; } catch { return "auto"; }
}

/** "auto", "light" or "dark" */
export const theme = signal(keptTheme());

/** @param {string} value */
function applyTheme(value) {
  theme.value = value;
  if (value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
  try {
    if (value === "auto") localStorage.removeItem(THEME);
    else localStorage.setItem(THEME, value);
  } catch { /* lasts until the page is closed */ }
}

/** Take over the settings that another device has stored. */
export async function loadSettings() {
  const before = changed;
  const { data: stored } = await request("GET", PATH);
  if (changed !== before) return;
  if (["auto", "light", "dark"].includes(stored.theme)) applyTheme(stored.theme);
  if (["auto", "en", "zh"].includes(stored.language) && stored.language !== languageSetting.value) await setLanguage(stored.language);
}

/** @param {{theme?: string, language?: any}} changes */
export async function changeSettings(changes) {
  changed += 1;
  const owner = user.peek()?.id;
  if (changes.theme) applyTheme(changes.theme);
  if (changes.language) await setLanguage(changes.language);
  storing = storing.catch(() => {}).then(() => store(changes, owner, ATTEMPTS));
  return storing;
}

/**
 * Put changes into the stored settings. Other settings, and those of another device, stay as they are.
 * @param {{theme?: string, language?: any}} changes
 * @param {string|undefined} owner whose settings they are: another user may have signed in since
 * @param {number} attempts
 * @returns {Promise<void>}
 */
async function store(changes, owner, attempts) {
  if (user.peek()?.id !== owner) return;
  const { headers, data } = await request("GET", PATH);
  if (user.peek()?.id !== owner) return;
  try {
    await request("PUT", PATH, { body: { ...data, ...changes }, headers: { "If-Match": headers.get("ETag") ?? "*" } });
  } catch (error) {
    if (error.status !== 412 || attempts < 2) throw error;
    await store(changes, owner, attempts - 1); // another device was faster
  }
}

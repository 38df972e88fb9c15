/** The user's settings: in this browser at once, and in the account for other devices. */
import { signal } from "../shared/ui.js";
import { call } from "../shared/session.js";
import { languageSetting, setLanguage } from "../shared/text.js";

const THEME = "aideer.theme";

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
  const stored = await call("GET", "/users/me/settings");
  if (["auto", "light", "dark"].includes(stored.theme)) applyTheme(stored.theme);
  if (["auto", "en", "zh"].includes(stored.language) && stored.language !== languageSetting.value) await setLanguage(stored.language);
}

/** @param {{theme?: string, language?: any}} changes */
export async function changeSettings(changes) {
  if (changes.theme) applyTheme(changes.theme);
  if (changes.language) await setLanguage(changes.language);
  const stored = await call("GET", "/users/me/settings");
  await call("PUT", "/users/me/settings", { body: { ...stored, ...changes } });
}

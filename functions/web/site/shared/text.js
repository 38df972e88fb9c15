/**
 * The texts of the page in Chinese and English. The user's setting chooses the language, or else the browser does.
 * A component that calls `t` is drawn again when the language changes.
 */
import { signal } from "../vendor/signals.js";

/** @typedef {Record<string, string>} Catalogue */
/** @typedef {Record<"en"|"zh", () => Promise<{default: Catalogue}>>} Loaders */

const KEPT = "aideer.language";
/** @type {Loaders[]} */
const parts = [];

/** "en" or "zh": the language that is shown. */
export const language = signal(choose(readSetting()));
/** "auto", "en" or "zh": the setting. */
export const languageSetting = signal(readSetting());
/** @type {import("../vendor/signals.js").Signal<Catalogue>} */
const catalogue = signal({});

/** @returns {"auto"|"en"|"zh"} */
function readSetting() {
  try {
    const kept = localStorage.getItem(KEPT);
    return kept === "en" || kept === "zh" ? kept : "auto";
  } catch {
    return "auto";
  }
}

/**
 * @param {string} setting
 * @returns {"en"|"zh"}
 */
function choose(setting) {
  if (setting === "en" || setting === "zh") return setting;
  const first = navigator.languages.find((tag) => /^(zh|en)\b/i.test(tag)) ?? "en";
  return /^zh/i.test(first) ? "zh" : "en";
}

/**
 * Add a catalogue in both languages. Wait for it before you draw.
 * @param {Loaders} loaders
 */
export async function addTexts(loaders) {
  parts.push(loaders);
  const { default: texts } = await loaders[language.value]();
  catalogue.value = { ...catalogue.value, ...texts };
  document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
}

/**
 * Change the setting, here and for the next visit.
 * @param {"auto"|"en"|"zh"} setting
 */
export async function setLanguage(setting) {
  try {
    if (setting === "auto") localStorage.removeItem(KEPT);
    else localStorage.setItem(KEPT, setting);
  } catch { /* without storage, the setting lasts until the page is closed */ }
  const next = choose(setting);
  const loaded = await Promise.all(parts.map((loaders) => loaders[next]()));
  languageSetting.value = setting;
  language.value = next;
  catalogue.value = Object.assign({}, ...loaded.map((module) => module.default));
  document.documentElement.lang = next === "zh" ? "zh-CN" : "en";
}

/**
 * Return a text. `{name}` in it is replaced by the value, and `{n|one|many}` by the form for the number n.
 * @param {string} key
 * @param {Record<string, any>} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  const text = catalogue.value[key] ?? key;
  return text
    .replace(/\{(\w+)\|([^|}]*)\|([^}]*)\}/g, (_, name, one, many) => (values[name] === 1 ? one : many))
    .replace(/\{(\w+)\}/g, (_, name) => (typeof values[name] === "number" ? formatNumber(values[name]) : String(values[name] ?? "")));
}

/** Whether there is a text for this key. @param {string} key */
export const has = (key) => key in catalogue.value;

/** @param {string} key */
const locale = (key = language.value) => (key === "zh" ? "zh-CN" : "en");

/** @param {number} value */
export function formatNumber(value) {
  return new Intl.NumberFormat(locale()).format(value);
}

/**
 * A day and a time, as short as its distance allows: "14:05", "Yesterday", "Mar 3".
 * @param {string|number|Date} time
 */
export function formatTime(time) {
  const at = new Date(time);
  const days = Math.round((startOfDay(new Date()).getTime() - startOfDay(at).getTime()) / 86_400_000);
  if (days === 0) return new Intl.DateTimeFormat(locale(), { hour: "2-digit", minute: "2-digit" }).format(at);
  if (days === 1) return new Intl.RelativeTimeFormat(locale(), { numeric: "auto" }).format(-1, "day");
  const year = at.getFullYear() === new Date().getFullYear() ? undefined : /** @type {const} */ ("numeric");
  return new Intl.DateTimeFormat(locale(), { month: "short", day: "numeric", year }).format(at);
}

/**
 * A day and a time in full.
 * @param {string|number|Date} time
 */
export function formatFullTime(time) {
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(new Date(time));
}

/** @param {Date} time */
function startOfDay(time) {
  return new Date(time.getFullYear(), time.getMonth(), time.getDate());
}

/**
 * @param {number} bytes
 */
export function formatBytes(bytes) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const power = Math.min(units.length - 1, bytes ? Math.floor(Math.log(bytes) / Math.log(1000)) : 0);
  return new Intl.NumberFormat(locale(), { style: "unit", unit: units[power], unitDisplay: "short", maximumFractionDigits: 1 }).format(bytes / 1000 ** power);
}

/**
 * The console's addresses. They are in the fragment: #/users/<id>?tab=… names a page, its parts and its query.
 */
import { signal } from "../shared/ui.js";

/** @typedef {{page: string, parts: string[], query: URLSearchParams}} Route */

/** Where the console is. */
export const route = signal(parse(location.hash));

addEventListener("hashchange", () => { route.value = parse(location.hash); });

/**
 * @param {string} hash
 * @returns {Route}
 */
function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [page = "", ...parts] = path.split("/").map((part) => {
    try { return decodeURIComponent(part); } catch { return part; }
  });
  return { page: page || "overview", parts, query: new URLSearchParams(query) };
}

/**
 * Return the address of a page.
 * @param {string[]} path
 * @param {Record<string, string|null|undefined>} [query]
 */
export function address(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value);
  const search = new URLSearchParams(/** @type {[string, string][]} */ (given)).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}

/**
 * Go to a page.
 * @param {string[]} path
 * @param {Record<string, string|null|undefined>} [query]
 */
export function go(path, query) {
  location.hash = address(path, query);
}

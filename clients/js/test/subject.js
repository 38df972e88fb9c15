/**
 * The client that the tests are about: this folder's, or the one that AIDEER_CLIENT names. Clients of other platforms pass the same
 * tests, if something gives them this interface.
 */
const client = /** @type {typeof import("../aideer.js")} */ (await import(process.env.AIDEER_CLIENT ?? "../aideer.js"));

export const { Aideer, ApiError, readEvents } = client;

/** The refresh token of a request that refreshes, or null. Sessions of passwords and of WeChat have different calls for it.
 * @param {import("./server.js").Asked} asked */
export function refreshOf({ path, body, headers }) {
  if (path.endsWith("/oauth2/token")) return new URLSearchParams(body).get("refresh_token");
  return path.endsWith("/wechat/refresh") ? String(headers.authorization).replace("Bearer ", "") : null;
}

/**
 * WeChat's `wx`, for Node: a request is a real one over HTTP, with the rules and the habits of the platform.
 *
 * - `success` comes for each status, `fail` for a lost line, a timeout (60 s if nobody says otherwise), and an abort.
 * - With enableChunked, the bytes come to onChunkReceived, and `success` has none. Without it, `success` has all bytes.
 * - In the background, a request fails at once, and those that run fail after 5 s: "request:fail interrupted".
 * - At most 10 requests run at one time. A header "Referer" is refused. The default content-type is application/json.
 * - Storage holds copies. A missing item is "".
 */
import assert from "node:assert/strict";
import http from "node:http";

/** The bytes of a buffer, in an ArrayBuffer of their own. */
const own = (bytes) => Uint8Array.from(bytes).buffer;

/** Storage as a phone has it: copies of what was set. */
export function memory(items = {}) {
  const kept = new Map(Object.entries(items).map(([name, value]) => [name, JSON.stringify(value)]));
  return {
    get: (name) => (kept.has(name) ? JSON.parse(kept.get(name)) : ""),
    set: (name, value) => void kept.set(name, JSON.stringify(value)),
    remove: (name) => void kept.delete(name),
  };
}

/**
 * Make a phone. `phone.wx` is what a mini program sees; the rest is for tests.
 * - version: of the base library
 * - code: what wx.login gives, as a promise
 * - chunks: whether this phone gives chunks at all (some keep the bytes to the end)
 * - cut: how the bytes of one part of the network come to onChunkReceived, as a list of parts
 * - late: whether `success` overtakes the last chunk
 * - background: milliseconds until running requests fail in the background
 * - domains: the request list of WeChat's console; null while the developer tools do not check it
 */
export function makePhone({
  storage = memory(), version = "3.5.0", code = async () => "a-code", chunks = true, cut = (bytes) => [bytes],
  late = false, background = 5000, domains = null,
} = {}) {
  const running = new Set();
  const listeners = { show: [], hide: [] };
  const phone = { sent: [], failed: [], hidden: false, mostAtOnce: 0, shown: [], storage };
  const streams = version.split(".").map(Number).reduce((sum, part) => sum * 1000 + part, 0) >= 2_020_002;
  let leaving;

  phone.hide = () => {
    phone.hidden = true;
    listeners.hide.forEach((run) => run({}));
    leaving = setTimeout(() => running.forEach((fail) => fail("interrupted")), background).unref();
  };
  phone.show = () => {
    clearTimeout(leaving);
    phone.hidden = false;
    listeners.show.forEach((run) => run({}));
  };
  phone.running = () => running.size;

  function request(options) {
    const { url, method = "GET", header = {}, data, dataType = "json", responseType = "text", timeout = 60_000 } = options;
    assert.ok(!Object.keys(header).some((name) => /^referer$/i.test(name)), "no Referer can be set");
    assert.ok(["GET", "POST", "PUT", "DELETE"].includes(method), method);
    assert.ok(data === undefined || typeof data === "string", "texts are sent as they are");
    const chunked = Boolean(options.enableChunked) && streams;
    const received = [];
    const got = [];
    let settled = false;
    let call = null;
    const settle = (name, value) => {
      if (settled) return;
      settled = true;
      running.delete(fail);
      clearTimeout(clock);
      if (name === "fail") phone.failed.push(value.errMsg);
      options[name]?.(value);
      options.complete?.(value);
    };
    const fail = (why) => {
      call?.destroy();
      setImmediate(() => settle("fail", { errMsg: `request:fail ${why}` }));
    };
    const clock = setTimeout(() => fail("timeout"), timeout).unref();
    phone.sent.push({ url, method, header, data, chunked, timeout });
    const task = { abort: () => fail("abort") };
    if (streams) task.onChunkReceived = (run) => void received.push(run);
    running.add(fail);
    phone.mostAtOnce = Math.max(phone.mostAtOnce, running.size);
    if (running.size > 10) return fail("exceed max task count"), task;
    if (phone.hidden) return fail("interrupted"), task;
    if (domains && !domains.includes(new URL(url).origin)) return fail("url not in domain list"), task;

    const headers = { "content-type": "application/json", "user-agent": "MicroMessenger" };
    for (const [name, value] of Object.entries(header)) headers[name.toLowerCase()] = value;
    if (data) headers["content-length"] = Buffer.byteLength(data);
    const deliver = (bytes) => !settled && cut(bytes).forEach((part) => received.forEach((run) => run({ data: own(part) })));
    call = http.request(url, { method, headers, agent: false }, (response) => {
      let last = null;
      response.on("data", (bytes) => {
        if (!(chunked && chunks)) return void got.push(bytes);
        if (late && last) deliver(last);
        if (late) last = bytes; else deliver(bytes);
      });
      response.on("end", () => {
        if (!response.complete) return;
        const bytes = Buffer.concat(got);
        let body = responseType === "arraybuffer" ? own(bytes) : bytes.toString();
        if (dataType === "json" && responseType === "text") try { body = JSON.parse(body); } catch { /* it stays a text */ }
        const named = Object.fromEntries(response.rawHeaders.map((name, at, all) => (at % 2 ? null : [name, all[at + 1]])).filter(Boolean));
        settle("success", { statusCode: response.statusCode, header: named, data: body, cookies: [], errMsg: "request:ok" });
        if (last) setTimeout(() => cut(last).forEach((part) => received.forEach((run) => run({ data: own(part) }))), 20);
      });
      response.on("close", () => response.complete || fail("errcode:-100 cronet_error_code:-100 error_msg:net::ERR_CONNECTION_CLOSED"));
    });
    call.on("error", () => fail("errcode:-101 cronet_error_code:-101 error_msg:net::ERR_CONNECTION_RESET"));
    call.end(data);
    return task;
  }

  const note = (name) => (options = {}) => {
    phone.shown.push({ name, ...options });
    setImmediate(() => { options.success?.({ confirm: true }); options.complete?.({}); });
  };
  phone.wx = {
    request,
    login: ({ success, fail }) => void code().then((value) => success({ code: value }), (error) => fail({ errMsg: `login:fail ${error.message}` })),
    getAppBaseInfo: () => ({ SDKVersion: version }),
    getSystemInfoSync: () => ({ SDKVersion: version }),
    getStorageSync: (name) => storage.get(name),
    setStorageSync: (name, value) => storage.set(name, value),
    removeStorageSync: (name) => storage.remove(name),
    onAppShow: (run) => void listeners.show.push(run),
    onAppHide: (run) => void listeners.hide.push(run),
  };
  for (const name of ["showToast", "showModal", "navigateTo", "navigateBack", "setClipboardData", "stopPullDownRefresh"]) phone.wx[name] = note(name);
  return phone;
}

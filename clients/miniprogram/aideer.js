/**
 * AIDeer in a WeChat mini program: sign in, ask, read the answer while it is made, resume it, stop it. Plain ES5, in one file.
 *
 * These rules always hold. README.md describes the options, the events and the errors.
 * - No token is in an address. The tokens are in the mini program's storage, and are read there each time.
 * - One refresh runs at a time, and all calls that wait for it use its result. A refresh token used twice ends all sessions.
 * - A question has one Idempotency-Key. If its line is lost, it is sent again with this key, so it is never asked twice.
 * - A lost answer goes on at the position of its last whole event. A position counts code points, and comes from the server.
 * - If a phone gives no chunks, the question is queued by POST /tasks with the same key, and its answer is polled.
 */
var TOKENS = "aideer.tokens", MARK = "aideer.refresh", SESSION = "/api/v1/session/wechat", BUSY = [429, 502, 503, 504];
var REUSABLE = 50000, STALE = 25000, TIMEOUT = 600000, LATE = 200, FIRST_WAIT = 500, LONGEST_WAIT = 15000; // milliseconds
var DEFAULTS = { base: "", language: "", silence: 45000, patience: 15000, attempts: 40, onSignedOut: function () {} };
var LOST = fault("network", "The line was lost."), ME = "/api/v1/users/me/sessions/current";
/** Make a client of the API at options.base. */
exports.create = function (options) {
  var api = {}, refreshing = [], signing = [], answers = [], later = options.later || setTimeout, chunked = false, polls, name;
  for (name in DEFAULTS) api[name] = options[name] || DEFAULTS[name];
  name = ((wx.getAppBaseInfo || wx.getSystemInfoSync)().SDKVersion || "9.0.0").split(".");
  polls = (name[0] - 2 || name[1] - 20 || name[2] - 2) < 0; // enableChunked came with base library 2.20.2
  if (wx.onAppShow) wx.onAppShow(function () { answers.slice().forEach(function (answer) { answer.resume(); }); });
  api.tokens = function () { return wx.getStorageSync(TOKENS) || null; };
  function keep(tokens) { wx.removeStorageSync(MARK); wx.setStorageSync(TOKENS, tokens || ""); }
  /** Sign in by wx.login, which asks the user nothing. A first sign-in registers the user. */
  api.signIn = function (done) {
    join(signing, done, function (finish) {
      function signed(error, reply) { if (!error) keep(reply.data); finish(error, reply); }
      function exchange(got) { send("GET", SESSION + "/token?code=" + encodeURIComponent(got.code), {}, null, signed); }
      wx.login({ success: exchange, fail: function (no) { finish(fault("wx_login", no.errMsg)); } });
    });
  };
  /** End the session of this phone. The tokens are forgotten, even if the server does not answer. */
  api.signOut = function (done) { api.request("DELETE", ME, {}, function () { keep(null); done(null); }); };
  /** Call the API, with call = { body, headers }, and once more after a refresh of refused tokens. The result has abort(). */
  api.request = function (method, path, call, done) {
    var used = api.tokens(), task = send(method, path, call, used && used.access_token, function (error, reply) {
      if (!error || error.status !== 401 || !used) return done(error, reply);
      refresh(used, function (failure) {
        if (failure) done(failure.status === 401 ? error : failure);
        else if (task) task = send(method, path, call, (api.tokens() || used).access_token, done);
      });
    });
    return { abort: function () { if (task) task.abort(); task = null; } };
  };
  /** Ask, with the body of POST /tasks/stream. The result has stop(done), abort() and resume(). */
  api.ask = function (question, options, tell) { return read(question, options.key || newKey(), "", 0, tell); };
  /** Read an answer from the position options.after on, or from its beginning. */
  api.follow = function (taskId, options, tell) { return read(null, "", taskId, options.after || 0, tell); };
  /** Replace refused tokens. A session that has only expired begins anew. If it is over, the error has the status 401. */
  function refresh(used, done) {
    join(refreshing, done, function (finish) {
      var stored = api.tokens(), began = wx.getStorageSync(MARK), over = fault("signed_out", "", { status: 401 });
      if (!stored || stored.access_token !== used.access_token) return finish(stored ? null : over);
      // The answer to a refresh was lost. A used refresh token works for one more minute, and after that it ends all sessions.
      if (began && Date.now() - began > REUSABLE) return api.signIn(finish);
      if (!began) wx.setStorageSync(MARK, Date.now());
      send("GET", SESSION + "/refresh", {}, stored.refresh_token, function (error, reply) {
        if (error && error.status !== 400 && error.status !== 401) return finish(error);
        if (!api.tokens()) return finish(over); // signed out meanwhile
        if (error && (error.code === "wechat_session_over" || error.code === "token_expired")) return api.signIn(finish);
        keep(error ? null : reply.data);
        if (error) api.onSignedOut();
        finish(error && over);
      });
    });
  }
  /** Send one request. call.chunk(bytes) gets the bytes of a stream as they come, and returns whether an event was among them. */
  function send(method, path, call, token, done) {
    var header = token ? { Authorization: "Bearer " + token } : {}, streams = !!call.chunk && !polls, raw = [], came, task, name;
    for (name in call.headers) header[name] = call.headers[name];
    if (api.language) header["Accept-Language"] = api.language;
    function finish(got) {
      var bytes = came ? raw : new Uint8Array(got.data || 0), failed = got.statusCode >= 400, said;
      var reply = { status: got.statusCode, headers: {}, data: null };
      for (name in got.header) reply.headers[name.toLowerCase()] = String(got.header[name]);
      if (call.chunk && !failed && !came && bytes.length) { polls = polls || !chunked; call.chunk(bytes); } // no chunks here
      if (!call.chunk || failed) reply.data = decode(bytes);
      if (/json/.test(reply.headers["content-type"])) reply.data = parse(reply.data);
      if (!failed) return done(null, reply);
      said = (reply.data && (reply.data.detail || reply.data.message)) || "";
      if (said.map) said = said.map(function (part) { return part.msg; }).join(" ");
      done(fault((reply.data && reply.data.code) || "http_" + reply.status, said, reply));
    }
    task = wx.request({
      url: (call.base || api.base) + path, method: method, header: header, data: call.body ? JSON.stringify(call.body) : "",
      dataType: "text", responseType: "arraybuffer", enableChunked: streams, timeout: TIMEOUT,
      success: function (got) { setTimeout(function () { finish(got); }, streams ? LATE : 0); }, // it may overtake the last chunk
      fail: function (no) { done(fault(/domain list|invalid url/i.test(no.errMsg) ? "address" : "network", no.errMsg)); }
    });
    if (streams && task.onChunkReceived) task.onChunkReceived(function (part) {
      var bytes = Array.prototype.slice.call(new Uint8Array(part.data));
      chunked = came = true;
      raw = call.chunk(bytes) ? [] : raw.concat(bytes); // a refusal comes in chunks, too
    });
    return task;
  }
  /** Read an answer. A lost line is opened again. */
  function read(question, key, taskId, position, tell) {
    var answer = {}, failures = 0, due = 0, stopped = false, opened = false, over = false, line, task, timer, heard, pause, turn;
    function emit(type, text, data) { tell({ type: type, text: text, position: position, data: data }); }
    function end(type, text, data) { answer.abort(); emit(type, text, data); }
    function leave() { var left = task; line = task = turn = null; clearTimeout(timer); if (left) left.abort(); }
    function wait(time) { var mine = turn = {}; later(function () { if (turn === mine) connect(); }, Math.max(time, 0)); }
    function hear(time) { heard = Date.now(); clearTimeout(timer); timer = setTimeout(silent, time); }
    function silent() { polls = polls || (!chunked && Date.now() - heard < STALE); fail(LOST); }
    function path(tail) { return "/api/v1/tasks" + (taskId && "/" + encodeURIComponent(taskId)) + tail; }
    function know(id) { taskId = answer.taskId = id; if (stopped) answer.stop(); }
    function fail(error) {
      var after = (error.retryAfter || 0) * 1000, again = error.code === "network";
      if (error.status) again = BUSY.indexOf(error.status) >= 0 && (taskId || error.code === "busy"); // else the caller decides
      if (error.code === "http_404" && !taskId && !polls) polls = again = true; // this deployment does not stream
      if (error.status === 410) return end("gone", "", null); // it has ended
      failures += /interrupted/.test(error.detail) ? 0 : 1; // in the background, each request fails
      if (!again || failures > api.attempts) return end("error", error.detail, error);
      leave();
      due = Date.now() + after;
      after = Math.max(after, Math.min(FIRST_WAIT * Math.pow(2, failures - 1), LONGEST_WAIT) * (0.5 + Math.random() / 2));
      wait(after);
      emit("lost", error.detail, { error: error, failures: failures, pause: after });
    }
    function take(event) {
      var body = parse(event.data || "{}");
      pause = event.retry || pause; // this stream comes in parts
      if (!body) fail(LOST);
      else if (event.event === "close") end("gone", "", null); // the task was deleted
      else if (event.event === "message" && event.id === "end") end("end", body.content || "", body);
      else if (event.event === "message") {
        position = Number(event.id); failures = 0;
        emit(body.reasoning === undefined ? "text" : "reasoning", body.reasoning || body.content || "", body);
      } else if (event.event === "start") {
        position = body.position; know(body.task_id);
        emit(opened ? "resumed" : "open", "", body); opened = true;
      }
    }
    /** Open a line: to the stream, to the queue, or to a poll. */
    function connect() {
      var mine = line = {}, base = (api.tokens() || {}).stream_base, asks = !taskId, call = {}, tail;
      polls = polls || base === null; // null says that nothing streams
      tail = asks ? (polls ? "" : "/stream") : (polls ? "/poll" : "/stream") + "?after=" + position;
      var feed = parser(function (event) { if (line === mine) take(event); });
      function chunk(bytes) { if (line === mine) hear(api.silence); return feed(bytes); }
      if (asks) call = { body: question, headers: { "Idempotency-Key": key } };
      if (!asks || !polls) call.chunk = chunk;
      call.base = polls ? "" : base;
      pause = 0; hear(polls || chunked ? api.silence : Math.min(api.silence, api.patience));
      task = api.request(asks ? "POST" : "GET", path(tail), call, function (error, reply) {
        if (line !== mine) return;
        if (error || (call.chunk ? !pause : !reply.data)) return fail(error || LOST);
        leave(); if (call.chunk) return wait(pause);
        know(reply.data.task_id); connect();
      });
    }
    /** Stop the answer, as soon as its task is known. What was made until then stays, and is billed. "end" follows. */
    answer.stop = function (done) { stopped = true; if (taskId) api.request("POST", path("/stop"), {}, done || function () {}); };
    /** End the line, and tell nothing more. The answer is made all the same, and `follow` can read it later. */
    answer.abort = function () { over = true; leave(); answers = answers.filter(function (other) { return other !== answer; }); };
    /** Go on now, if the line is lost, or was frozen in the background. Call it in a page's onShow. */
    answer.resume = function () { if (!over && (!line || Date.now() - heard > STALE)) { leave(); wait(due - Date.now()); } };
    answers.push(answer); connect(); return answer;
  }
  return api;
};
exports.parser = parser;
/** Read Server-Sent Events (HTML Living Standard, section 9.2) of bytes that are cut anywhere. */
function parser(tell) {
  var line = [], data = [], fields = { id: "" }, first = true, cr = false, seen = false;
  function end() {
    var text = decode(line).replace(first ? /^\ufeff/ : "", ""), parts = /^([^:]*):? ?([\s\S]*)$/.exec(text), retry;
    line = []; first = false;
    if (parts[1] === "data") data.push(parts[2]); else if (parts[1]) fields[parts[1]] = parts[2];
    if (text) return;
    if (/^\d+$/.test(fields.retry)) retry = Number(fields.retry);
    if (data.length) tell({ id: fields.id, event: fields.event || "message", data: data.join("\n"), retry: retry });
    else if (retry !== undefined) tell({ id: fields.id, event: "", data: "", retry: retry });
    data = []; fields = { id: fields.id }; seen = true;
  }
  return function (bytes) {
    for (var i = 0; i < bytes.length; i++) {
      if (bytes[i] !== 10 && bytes[i] !== 13) line.push(bytes[i]); else if (bytes[i] === 13 || !cr) end();
      cr = bytes[i] === 13;
    }
    return seen;
  };
}
/** The text of bytes in UTF-8. Phones may lack TextDecoder. */
function decode(bytes) {
  var text = "", i, b;
  for (i = 0; i < bytes.length; i++) text += (b = bytes[i]) > 127 || b === 37 ? "%" + b.toString(16) : String.fromCharCode(b);
  try { return decodeURIComponent(text); } catch (broken) { return "\ufffd"; }
}
function parse(text) { try { return JSON.parse(text); } catch (broken) { return null; } }
function newKey() { return [Date.now(), Math.random(), Math.random()].join("-"); }
function fault(code, detail, reply) {
  var from = reply || { status: 0 }, after = Number((from.headers || {})["retry-after"]) || null;
  return { status: from.status, code: code, detail: detail || "", retryAfter: after, data: from.data || null };
}
function join(waiting, done, work) { // do the work once for all that wait for it
  function finish(error, value) { waiting.splice(0, waiting.length).forEach(function (each) { each(error, value); }); }
  if (waiting.push(done) === 1) work(finish);
}

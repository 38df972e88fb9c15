/**
 * One chat: ask, see the answer grow, stop it, go on with it after the background and after a restart.
 *
 * A question is kept in the storage with its key until the server has accepted it. If WeChat ends the mini program before that, the
 * next start asks again with the same key, and the question is asked and paid once.
 */
var drawing = require("./drawing.js");

var CHAT = "aideer.chat"; // the chat that is open
var ASKING = "aideer.asking"; // the question that is on its way: { key, question, at }
var FRESH = 3600000; // milliseconds in which a question that could not be sent is asked by itself
var SHOWN = 30; // messages
var FAILED = "回答失败了，未扣除积分。";

function isShown(message) {
  return message.visibility && message.role !== "system" && message.type === "text";
}

function shown(message) {
  return { id: "m" + message.n, role: message.role, parts: drawing.split(message.content), note: noteOf(message.finish_reason) };
}

function noteOf(reason) {
  if (reason === "stopped") return "已停止";
  if (reason === "length") return "已达到长度上限";
  if (reason === "interrupted") return "回答中断";
  if (reason === "content_filter") return "内容被过滤";
  return "";
}

function explain(error) {
  if (error.code === "network") return "网络不可用，请稍后再试。";
  if (error.code === "address") return "此地址不在小程序的合法域名列表中。";
  if (error.code === "wx_login") return "微信登录失败，请稍后再试。";
  return (error.detail || "服务出错了（" + error.code + "）。") + (error.retryAfter ? " 请在 " + error.retryAfter + " 秒后重试。" : "");
}

Page({
  data: { title: "新对话", messages: [], draft: "", asking: false, status: "", notice: "", credits: null, end: "" },

  onLoad: function () {
    this.api = getApp().api;
    this.answer = null;
    this.chatId = null;
    this.start();
  },

  /** The program comes back from the background, or the list of chats was closed. */
  onShow: function () {
    if (!this.ready) return;
    if (wx.getStorageSync(CHAT) !== (this.chatId || "")) this.open(wx.getStorageSync(CHAT));
    else if (this.answer) this.answer.resume();
    else if (this.chatId) this.read();
  },

  onUnload: function () {
    this.leave();
    this.closed = true;
  },

  /** Sign in, show the credits and the chat that was open, and ask what could not be asked before. */
  start: function () {
    var self = this;
    this.setData({ notice: "" });
    getApp().ready(function (error) {
      var asking = wx.getStorageSync(ASKING);
      if (self.closed) return;
      if (error) return self.refuse(error);
      self.ready = true;
      self.count();
      self.chatId = wx.getStorageSync(CHAT) || null;
      if (self.answer) return;
      if (asking && Date.now() - asking.at < FRESH) return self.ask(asking.question, asking.key);
      if (asking) self.setData({ draft: asking.question.messages[0].content });
      wx.removeStorageSync(ASKING);
      if (self.chatId) self.read();
    });
  },

  call: function (method, path, done) {
    var self = this;
    return this.api.request(method, "/api/v1" + path, {}, function (error, reply) {
      if (self.closed) return;
      if (error) self.refuse(error);
      else done(reply.data);
    });
  },

  count: function () {
    var self = this;
    this.call("GET", "/users/me", function (user) { self.setData({ credits: user.credits_left }); });
  },

  refuse: function (error) {
    if (error.status === 404 && error.code === "chat_not_found") return this.newChat();
    this.setData({ notice: explain(error) });
  },

  /** Show the stored chat. If it is answering, read the answer from its beginning. */
  read: function () {
    var self = this, chatId = this.chatId;
    this.call("GET", "/chats/" + encodeURIComponent(chatId) + "?limit=" + SHOWN, function (chat) {
      if (self.chatId !== chatId || self.answer) return; // something else was opened meanwhile
      var messages = chat.messages.filter(isShown).map(shown);
      self.setData({ title: chat.title, messages: messages, notice: "", end: self.nextEnd() });
      if (chat.active_task) self.watch(function (tell) { return self.api.follow(chat.active_task, {}, tell); });
    });
  },

  typed: function (event) { this.setData({ draft: event.detail.value }); },

  send: function () {
    var self = this, text = this.data.draft.trim(), question = { messages: [{ role: "user", content: text }] };
    if (!text || this.data.asking || !this.ready) return;
    if (this.chatId) {
      question.chat_id = this.chatId;
      return this.ask(question);
    }
    this.setData({ asking: true });
    this.api.request("GET", "/api/v1/config", {}, function (error, reply) {
      if (self.closed) return;
      self.setData({ asking: false });
      if (error) return self.refuse(error);
      if (!reply.data.default_preset) return self.setData({ notice: "管理员还没有设置默认预设。" });
      question.chat = { preset_id: reply.data.default_preset.id };
      self.ask(question);
    });
  },

  /** Ask a question, or ask it again with its key. */
  ask: function (question, key) {
    var self = this, at = this.data.messages.length, patch = { draft: "", notice: "" };
    key = key || [Date.now(), Math.random(), Math.random()].join("-");
    wx.setStorageSync(ASKING, { key: key, question: question, at: Date.now() });
    this.asked = question.messages[0].content;
    patch["messages[" + at + "]"] = { id: "q" + key, role: "user", parts: drawing.split(this.asked), note: "" };
    this.setData(patch);
    this.watch(function (tell) { return self.api.ask(question, { key: key }, tell); });
  },

  /** Show an answer while it is made. */
  watch: function (open) {
    var self = this, at = this.data.messages.length, patch = { asking: true, status: "思考中…", end: this.nextEnd() };
    patch["messages[" + at + "]"] = { id: "a" + Date.now(), role: "assistant", parts: [], note: "" };
    this.setData(patch);
    this.drawing = drawing.create(this, "messages[" + at + "].parts", function (drawn) { drawn.end = self.nextEnd(); });
    this.answer = open(function (event) { self.tell(event, at); });
  },

  tell: function (event, at) {
    var patch = {};
    if (event.type === "open") {
      this.chatId = event.data.chat_id;
      wx.setStorageSync(CHAT, this.chatId);
      wx.removeStorageSync(ASKING);
      this.asked = null;
    } else if (event.type === "text") {
      if (this.data.status) this.setData({ status: "" });
      this.drawing.add(event.text);
    } else if (event.type === "lost") {
      this.setData({ status: "连接中断，正在重连…" });
    } else if (event.type === "resumed") {
      if (this.data.status) this.setData({ status: "" });
    } else if (event.type === "end") {
      this.drawing.finish(event.text);
      patch["messages[" + at + "].note"] = event.data.error ? event.data.error.message || FAILED : noteOf(event.data.finish_reason);
      if (typeof event.data.credits_left === "number") patch.credits = event.data.credits_left;
      this.done(patch);
    } else if (event.type === "gone") {
      this.leave();
      this.read();
    } else if (event.type === "error") this.fail(event.data, at);
  },

  /** A question that was refused goes back into the field. An answer that cannot be read stays in the chat. */
  fail: function (error, at) {
    var asked = this.asked, patch = { notice: explain(error) };
    this.drawing.cancel();
    if (asked) {
      wx.removeStorageSync(ASKING);
      patch.messages = this.data.messages.slice(0, at - 1);
      patch.draft = asked;
    }
    this.asked = null;
    this.done(patch);
  },

  done: function (patch) {
    this.answer = null;
    patch.asking = false;
    patch.status = "";
    patch.end = this.nextEnd();
    this.setData(patch);
  },

  stop: function () {
    var self = this;
    if (!this.answer) return;
    this.setData({ status: "正在停止…" });
    this.answer.stop(function (error) { if (error && !self.closed) self.refuse(error); });
  },

  /** Leave the answer: the server makes it all the same, and the chat will have it. */
  leave: function () {
    if (this.answer) this.answer.abort();
    if (this.drawing) this.drawing.cancel();
    this.answer = null;
    this.asked = null;
    this.setData({ asking: false, status: "" });
  },

  open: function (chatId) {
    this.leave();
    this.chatId = chatId || null;
    wx.setStorageSync(CHAT, this.chatId || "");
    this.setData({ title: "新对话", messages: [], notice: "", end: "" });
    if (this.chatId) this.read();
  },

  newChat: function () { this.open(null); },
  list: function () { wx.navigateTo({ url: "/pages/chats/chats" }); },
  retry: function () { this.start(); },

  /** Where to scroll to. A scroll-view moves only if the id changes, so there are two at the end. */
  nextEnd: function () { return this.data.end === "end-a" ? "end-b" : "end-a"; }
});

/** The list of one's chats, newest first. A tap opens one. */
var CHAT = "aideer.chat";

Page({
  data: { chats: [], notice: "", loading: false, more: false },

  onLoad: function () {
    this.cursor = "";
    this.load();
  },

  onUnload: function () { this.closed = true; },
  onReachBottom: function () { if (this.data.more) this.load(); },

  /** Load one more page of the list. The cursor is opaque, and comes from the page before. */
  load: function () {
    var self = this, path = "/api/v1/chats?limit=30&order_by=update_time";
    if (this.cursor) path += "&cursor=" + encodeURIComponent(this.cursor);
    if (this.data.loading) return;
    this.setData({ loading: true, notice: "" });
    getApp().api.request("GET", path, {}, function (error, reply) {
      if (self.closed) return;
      if (error) return self.setData({ loading: false, notice: error.detail || "无法读取对话列表。" });
      self.cursor = reply.headers["x-next-cursor"] || "";
      self.setData({
        loading: false,
        more: Boolean(self.cursor),
        chats: self.data.chats.concat(reply.data.map(function (chat) {
          return { id: chat.id, title: chat.title, time: chat.update_time.slice(0, 10), answering: Boolean(chat.active_task) };
        }))
      });
    });
  },

  open: function (event) {
    wx.setStorageSync(CHAT, event.currentTarget.dataset.id);
    wx.navigateBack();
  }
});

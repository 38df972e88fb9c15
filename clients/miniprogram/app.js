/** The mini program. Its pages share one client of the API: it refreshes the tokens once for all of them. */
var aideer = require("./aideer.js");
var config = require("./config.js");

App({
  onLaunch: function () {
    this.api = aideer.create({ base: config.base, language: "zh-CN" });
  },

  /** Sign in, if nobody is. WeChat asks the user nothing. done(error) */
  ready: function (done) {
    if (this.api.tokens()) done(null);
    else this.api.signIn(done);
  }
});

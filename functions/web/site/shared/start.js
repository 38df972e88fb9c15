// Loads the page again if a part of it did not arrive. A new AWS account refuses requests above its concurrency, and a page asks for
// its modules at once. The browser keeps the parts that have arrived, so each attempt asks for less.
(() => {
  const [KEY, MOST, FIRST_WAIT] = ["aideer.start", 5, 300];
  /** Later than this (ms), a part that does not arrive is no part of the start. */
  const START = 20_000;
  let isWaiting = false;

  function loadAgain() {
    if (isWaiting || performance.now() > START) return;
    isWaiting = true;
    let attempts = MOST;
    try { attempts = Number(sessionStorage.getItem(KEY)); } catch { /* without a count, no attempt */ }
    if (attempts < MOST) {
      sessionStorage.setItem(KEY, String(attempts + 1));
      setTimeout(() => location.reload(), FIRST_WAIT * 2 ** attempts * (0.5 + Math.random()));
      return;
    }
    sessionStorage.removeItem(KEY);
    const tell = () => document.body.append("This page did not load. Please try again. · 页面没有加载完整，请重试。");
    if (document.body) tell();
    else addEventListener("DOMContentLoaded", tell);
  }

  /** @param {any} error what browsers throw where a module does not arrive */
  const isLostModule = (error) => error instanceof TypeError && /import|module script/i.test(error.message);

  addEventListener("error", (event) => {
    const target = /** @type {any} */ (event.target);
    if (target?.localName === "script" || target?.rel === "stylesheet" || isLostModule(event.error)) loadAgain();
  }, true);
  addEventListener("unhandledrejection", (event) => { if (isLostModule(event.reason)) loadAgain(); });
  addEventListener("load", (event) => {
    const target = /** @type {HTMLScriptElement} */ (event.target);
    if (target.type === "module") setTimeout(() => { if (!isWaiting) sessionStorage.removeItem(KEY); }, START);
  }, true);
})();

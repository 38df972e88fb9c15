/**
 * Draws a text that grows, with few and small calls of setData: each copies its data from one thread of the phone to another.
 *
 * - At most one call is under way, and at least EVERY milliseconds lie between two.
 * - A text is a list of parts of at most PART code units. A call sends the last parts only, never the whole text.
 */
var EVERY = 80, PART = 500;

/** Where a part of the text that begins at `from` ends: never between the halves of a surrogate pair. */
function endOfPart(text, from) {
  var end = Math.min(from + PART, text.length), last = text.charCodeAt(end - 1);
  return end < text.length && last >= 0xd800 && last < 0xdc00 ? end - 1 : end;
}

/** The parts of a whole text. */
exports.split = function (text) {
  var parts = [], from, end;
  for (from = 0; from < text.length; from = end) {
    end = endOfPart(text, from);
    parts.push(text.slice(from, end));
  }
  return parts;
};

/** Draw at a path of the page's data, such as "messages[3].parts". also(patch) may add to each call. */
exports.create = function (page, path, also) {
  var text = "", from = 0, number = 0, timer = null, busy = false, dirty = false, over = false;

  function draw() {
    var patch = {}, end;
    timer = null;
    dirty = false;
    busy = true;
    for (;;) {
      end = endOfPart(text, from);
      patch[path + "[" + number + "]"] = text.slice(from, end);
      if (end === text.length) break;
      from = end;
      number += 1;
    }
    also(patch);
    page.setData(patch, function () {
      busy = false;
      if (dirty) soon();
    });
  }

  function soon() {
    dirty = true;
    if (!busy && !timer && !over) timer = setTimeout(draw, EVERY);
  }

  return {
    add: function (more) { text += more; soon(); },
    /** Draw the rest now, and never again. If the server's text differs from what was drawn, it replaces all. */
    finish: function (whole) {
      var patch = {};
      clearTimeout(timer);
      over = true;
      if (whole === text) return draw();
      patch[path] = exports.split(whole);
      also(patch);
      page.setData(patch);
    },
    cancel: function () { clearTimeout(timer); over = true; }
  };
};

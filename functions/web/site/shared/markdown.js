/**
 * Markdown of answers, as safe elements.
 *
 * Every answer is hostile. HTML in it is shown as text, an image becomes a link, a link opens http, https and mailto alone, and
 * all of it passes DOMPurify. Markup that would take long to parse is shown as text too.
 *
 * An answer is split into segments: blocks that later text cannot change. Each segment is drawn once. While an answer grows, only
 * its tail is drawn again, so one frame draws a bounded number of elements, however long the answer is. Code blocks grow by text
 * nodes. Highlighting and formulas are loaded at the first need.
 */
import DOMPurify from "../vendor/dompurify.js";
import { Marked } from "../vendor/marked.js";
import { t } from "./text.js";
import { copyText, html, useLayoutEffect, useRef } from "./ui.js";

/** The most characters of a segment, and so of the tail that each frame draws. */
export const SEGMENT = 2800;
/** The most characters that one frame takes in, and the most segments that it draws. */
const FRAME = 3000;
/** A stored answer up to this length is drawn at once, so that its height is right from the start. */
const AT_ONCE = 5000;
/** So many segments are laid out together. */
const CHUNK = 16;
/** Longer code is not highlighted. */
const HIGHLIGHTED = 40_000;
/** The most characters of code and formulas that a frame draws once their library has come. Longer ones have a frame of their own. */
const CATCH_UP = 3000;
/** The most parts of code that get their colors in one frame. */
const COLORED = 500;
/** Code up to this length is highlighted while it grows. */
const HIGHLIGHTED_LIVE = 3000;

const FENCE = /^ {0,3}(`{3,}|~{3,})([^\n`]*)$/m;
/** Markup whose parsing takes long, or whose elements nest deep. */
const HOSTILE = /([*_~`[\]()!<>#|\\$^])\1{59,}|^(?:[ \t]*(?:>|[-*+]|\d{1,9}[.)])[ \t]*){13,}/m;
const MANY_CELLS = 600;

const marked = new Marked({ gfm: true, breaks: true });
marked.use({
  extensions: [
    math("block", /^ {0,3}(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])(?:\n|$)/, /(?:^|\n) {0,3}(?:\$\$|\\\[)/),
    math("inline", /^(?:\$\$([^\n$]+?)\$\$|\\\(([^\n]+?)\\\)|\$(?![\s\d.,]*\s|\s)((?:\\.|[^\n$\\])+?)(?<!\s)\$(?![\d\w]))/, /\$|\\\(/),
  ],
  renderer: {
    html({ text }) { return /^<br\s*\/?>$/i.test(text.trim()) ? "<br>" : escape(text); },
    image({ href, text, raw }) { return isLink(href) ? link(href, text || href, true) : escape(raw); },
    link({ href, raw, tokens }) { return isLink(href) ? link(href, this.parser.parseInline(tokens), false) : escape(raw); },
    checkbox({ checked }) { return checked ? "☑ " : "☐ "; },
    code({ text, lang }) { return `<pre><code class="language-${escape((lang ?? "").split(/\s/)[0])}">${escape(text)}\n</code></pre>`; },
    table(token) {
      const row = (cells, tag) => `<tr>${cells.map((cell) => `<${tag}${cell.align ? ` align="${cell.align}"` : ""}>${this.parser.parseInline(cell.tokens)}</${tag}>`).join("")}</tr>`;
      return `<div class="table-frame" tabindex="0"><table class="table"><thead>${row(token.header, "th")}</thead><tbody>${token.rows.map((one) => row(one, "td")).join("")}</tbody></table></div>`;
    },
  },
});

const ALLOWED = {
  ALLOWED_TAGS: ["p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong", "del", "a",
    "table", "thead", "tbody", "tr", "th", "td", "div", "span", "svg", "path"],
  ALLOWED_ATTR: ["href", "class", "align", "start", "target", "rel", "tabindex", "data-display", "aria-hidden", "viewBox", "d"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ADD_URI_SAFE_ATTR: ["align", "start", "target", "rel", "tabindex", "data-display", "aria-hidden", "viewBox", "d"],
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const ALLOWED_MATH = { USE_PROFILES: { mathMl: true }, FORBID_ATTR: ["style", "href", "id"], ALLOW_DATA_ATTR: false, RETURN_DOM_FRAGMENT: true };
const ALLOWED_CODE = { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], ALLOW_DATA_ATTR: false, RETURN_DOM_FRAGMENT: true };

/**
 * @param {"block"|"inline"} level
 * @param {RegExp} rule
 * @param {RegExp} hint
 */
function math(level, rule, hint) {
  return {
    name: `${level}Math`,
    level,
    start: (source) => { const at = source.search(hint); return at < 0 ? undefined : at; },
    tokenizer(source) {
      const found = rule.exec(source);
      return found ? { type: `${level}Math`, raw: found[0], tex: (found[1] ?? found[2] ?? found[3]).trim(), display: level === "block" || found[0].startsWith("$$") } : undefined;
    },
    renderer: ({ tex, display }) => `<span class="math" data-display="${display ? "block" : "inline"}">${escape(tex)}</span>`,
  };
}

/** @param {string} text */
function escape(text) {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** @param {string} href */
function isLink(href) {
  return /^(?:https?:\/\/|mailto:)[^\s]+$/i.test(href);
}

function link(href, inside, isImage) {
  const picture = isImage ? `<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d="M5 4h14v16H5ZM5 16l4-5 4 4 3-3 3 3"></path></svg>${escape(inside)}` : inside;
  return `<a href="${escape(href)}" target="_blank" rel="noopener noreferrer nofollow">${picture}</a>`;
}

/** @param {string} source */
function isHostile(source) {
  return HOSTILE.test(source) || (source.match(/\|/g)?.length ?? 0) > MANY_CELLS;
}

/**
 * Return the safe elements of a piece of Markdown.
 * @param {string} source
 * @returns {DocumentFragment}
 */
export function renderMarkdown(source) {
  if (!isHostile(source)) {
    try {
      return /** @type {any} */ (DOMPurify.sanitize(/** @type {string} */ (marked.parse(source)), ALLOWED));
    } catch { /* shown as text */ }
  }
  const fragment = document.createDocumentFragment();
  const plain = fragment.appendChild(document.createElement("div"));
  plain.className = "plain";
  plain.textContent = source;
  return fragment;
}

/** @typedef {{type: "text", source: string}|{type: "code", language: string, text: string, open: boolean}} Segment */

/** Splits growing Markdown into segments. `done` never changes, apart from the text of an open code block at its end. */
export class Splitter {
  constructor() {
    /** @type {Segment[]} */
    this.done = [];
    /** Text whose blocks can still change. */
    this.tail = "";
    /** @type {{marker: string, indent: number}|null} */
    this.fence = null;
    /** The unfinished line of a code block, if it may become the block's end. */
    this.line = "";
    this.definitions = "";
  }

  /** @param {string} text */
  push(text) {
    for (let at = 0; at < text.length; at += SEGMENT / 2) this.add(text.slice(at, at + SEGMENT / 2));
  }

  /** Finish: no text follows. */
  end() {
    if (this.fence) {
      this.code().text += this.line;
      this.line = "";
      this.code().open = false;
      this.fence = null;
    }
    if (this.tail) this.freeze(this.tail);
    this.tail = "";
  }

  code() {
    return /** @type {{type: "code", language: string, text: string, open: boolean}} */ (this.done[this.done.length - 1]);
  }

  freeze(source) {
    if (source.trim()) this.done.push({ type: "text", source: this.definitions && /\]/.test(source) ? `${source}\n\n${this.definitions}` : source });
  }

  add(text) {
    let rest = text;
    while (rest) {
      if (this.fence) rest = this.addCode(rest);
      else {
        this.tail += rest;
        rest = this.openFence();
        if (!this.fence) this.cut();
      }
    }
  }

  /** Begin a code block if the tail has the complete line of a fence. Return what follows it. */
  openFence() {
    const found = FENCE.exec(this.tail);
    const lineEnd = found ? found.index + found[0].length : -1;
    if (!found || this.tail[lineEnd] !== "\n") return "";
    const rest = this.tail.slice(lineEnd + 1);
    this.tail = this.tail.slice(0, found.index);
    this.cut();
    if (this.tail) this.freeze(this.tail);
    this.tail = "";
    this.fence = { marker: found[1], indent: found[0].length - found[0].trimStart().length };
    this.done.push({ type: "code", language: found[2].trim().split(/\s/)[0].toLowerCase(), text: "", open: true });
    return rest;
  }

  /** Add text to the open code block up to its end. Return what follows it. */
  addCode(text) {
    const lines = (this.line + text).split("\n");
    this.line = "";
    const fence = /** @type {{marker: string, indent: number}} */ (this.fence);
    const end = new RegExp(`^ {0,3}${fence.marker[0]}{${fence.marker.length},}[ \\t]*$`);
    const code = this.code();
    for (let at = 0; at < lines.length; at++) {
      const last = at === lines.length - 1;
      if (!last && end.test(lines[at])) {
        code.open = false;
        this.fence = null;
        return lines.slice(at + 1).join("\n");
      }
      // An unfinished line waits: it could become the fence, or lose its indentation.
      if (last) this.line = lines[at];
      else code.text += `${fence.indent ? lines[at].replace(new RegExp(`^ {0,${fence.indent}}`), "") : lines[at]}\n`;
    }
    return "";
  }

  /** Move blocks that cannot change from the tail to `done`. */
  cut() {
    while (this.tail) {
      const size = this.stable();
      if (!size) return;
      this.freeze(this.tail.slice(0, size));
      this.tail = this.repeated + this.tail.slice(size);
    }
  }

  /** How many characters at the start of the tail can be frozen. `repeated` is what the rest has to begin with. */
  stable() {
    this.repeated = "";
    if (isHostile(this.tail)) return this.tail.length > SEGMENT ? cutAt(this.tail, SEGMENT) : 0;
    let tokens;
    try {
      tokens = marked.lexer(this.tail);
    } catch {
      return this.tail.length > SEGMENT ? cutAt(this.tail, SEGMENT) : 0;
    }
    const blocks = tokens.filter((token) => token.type !== "space");
    if (blocks.length > 1) {
      for (const token of blocks) if (token.type === "def" && this.definitions.length < 2000) this.definitions += `${token.raw.trim()}\n`;
      const first = tokens[0].type === "space" ? tokens[0].raw.length + tokens[1].raw.length : tokens[0].raw.length;
      // Several blocks at once, as long as they fit: fewer segments. The last block stays.
      let size = 0;
      for (const token of tokens.slice(0, tokens.lastIndexOf(blocks[blocks.length - 1]))) {
        if (size && size + token.raw.length > SEGMENT / 2) break;
        size += token.raw.length;
      }
      return Math.min(size || first, this.tail.length);
    }
    if (this.tail.length <= SEGMENT || !blocks.length) return 0;
    const [block] = blocks;
    const size = block.type === "list" ? cutAtItem(this.tail) : cutAt(this.tail, SEGMENT);
    if (block.type === "table") this.repeated = this.tail.slice(0, this.tail.indexOf("\n", this.tail.indexOf("\n") + 1) + 1);
    return this.repeated.length >= size ? SEGMENT : size;
  }
}

/** The best place to cut a long text: after a line, or else after a word, and never within a character. */
function cutAt(text, most) {
  const line = text.lastIndexOf("\n", most - 1) + 1;
  if (line > most / 4) return line;
  const word = text.lastIndexOf(" ", most - 1) + 1;
  if (word > most / 2) return word;
  return /[\ud800-\udbff]/.test(text[most - 1]) ? most - 1 : most;
}

function cutAtItem(text) {
  const items = [...text.slice(0, SEGMENT).matchAll(/\n(?=(?:[-*+]|\d{1,9}[.)]) )/g)];
  return items.length ? items[items.length - 1].index + 1 : cutAt(text, SEGMENT);
}

/** Draws one answer into an element, frame by frame. */
export class Drawing {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.splitter = new Splitter();
    this.taken = 0;
    this.text = "";
    this.ended = false;
    this.drawn = 0;
    this.placed = 0;
    this.budget = FRAME;
    this.lastStep = 0;
    this.chunkHeight = 0;
    /** @type {HTMLElement} */
    this.chunk = root;
    /** @type {HTMLElement|null} */
    this.tail = null;
    this.tailSource = "";
    /** @type {CodeBlock|null} */
    this.open = null;
    this.frame = 0;
    root.replaceChildren();
    // Attributes, because Preact sets the classes.
    delete root.dataset.long;
    root.dataset.drawing = "";
  }

  /**
   * Show this text. If it goes on from the text before, only the rest is drawn.
   * @param {string} text
   * @param {boolean} ended whether nothing follows
   */
  update(text, ended) {
    if (!text.startsWith(this.text) || (this.ended && text !== this.text)) this.restart();
    this.text = text;
    if (this.ended) return;
    this.wantsEnd = ended;
    if (ended && text.length - this.taken <= AT_ONCE) this.step();
    else this.schedule();
  }

  restart() {
    this.stop();
    Object.assign(this, new Drawing(this.root));
  }

  stop() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
  }

  schedule() {
    if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.step(); });
  }

  step() {
    // A slow device draws less in a frame.
    const now = performance.now();
    if (this.lastStep) this.budget = now - this.lastStep > 60 ? Math.max(600, this.budget / 2) : Math.min(FRAME, this.budget * 1.5);
    this.lastStep = now;
    if (this.splitter.done.length - this.drawn < 2) {
      const next = this.text.slice(this.taken, this.taken + (this.wantsEnd && !this.taken ? AT_ONCE : FRAME));
      this.taken += next.length;
      this.splitter.push(next);
    }
    if (this.wantsEnd && this.taken === this.text.length && !this.ended) {
      this.splitter.end();
      this.ended = true;
    }
    this.draw();
    if (this.taken < this.text.length || this.isBehind()) this.schedule();
    else this.lastStep = 0;
    if (this.ended && !this.frame) {
      delete this.root.dataset.drawing;
      this.root.dispatchEvent(new Event("drawn", { bubbles: true }));
    }
  }

  /** Whether a segment waits to be drawn. An open code block waits for its text only. */
  isBehind() {
    const { done } = this.splitter;
    const next = done[this.drawn];
    if (!next) return this.splitter.tail !== this.tailSource;
    return next.type === "text" || !next.open || this.open?.text !== next.text;
  }

  draw() {
    const { done, tail } = this.splitter;
    let budget = this.ended && !this.drawn && this.text.length <= AT_ONCE ? Infinity : this.budget;
    while (this.drawn < done.length && budget > 0) {
      const segment = done[this.drawn];
      if (segment.type === "text") {
        const element = segmentElement(segment.source);
        budget -= Math.max(segment.source.length, 4 * element.getElementsByTagName("*").length);
        this.place(element, segment.source.length);
      } else {
        if (!this.open) {
          this.open = new CodeBlock(segment.language);
          this.place(this.open.element, segment.text.length + 140);
        }
        budget -= this.open.grow(segment.text);
        if (segment.open) break;
        this.open.close();
        this.open = null;
      }
      this.drawn += 1;
    }
    if (!tail || this.drawn < done.length) {
      this.tail?.remove();
      this.tail = null;
      this.tailSource = "";
    } else if (tail !== this.tailSource && budget > 0) {
      this.tailSource = tail;
      const element = segmentElement(tail, true);
      if (this.tail) this.tail.replaceWith(element);
      else this.root.append(element);
      this.tail = element;
    }
  }

  /** @param {HTMLElement} element @param {number} size how many characters it has */
  place(element, size) {
    if (this.placed % CHUNK === 0) {
      this.chunk = document.createElement("div");
      this.chunk.className = "chunk";
      this.chunkHeight = 0;
      this.root.insertBefore(this.chunk, this.tail);
    }
    this.chunk.append(element);
    this.placed += 1;
    // The browser lays out a long answer only where it is in view. Until it has, this is about the height of a chunk.
    this.chunkHeight += 28 * Math.ceil(size / 70) + 14;
    this.chunk.style.setProperty("contain-intrinsic-size", `auto ${this.chunkHeight}px`);
    if (this.placed === 3 * CHUNK) this.root.dataset.long = "";
  }
}

/**
 * @param {string} source
 * @param {boolean} [growing]
 * @returns {HTMLElement}
 */
function segmentElement(source, growing = false) {
  const element = document.createElement("div");
  element.className = "segment";
  element.append(renderMarkdown(source));
  for (const pre of element.querySelectorAll("pre")) {
    const code = pre.querySelector("code");
    const language = /language-(\S+)/.exec(code?.className ?? "")?.[1] ?? "";
    const block = new CodeBlock(language);
    block.grow(code?.textContent ?? "");
    if (!growing) block.close();
    pre.replaceWith(block.element);
  }
  for (const place of /** @type {NodeListOf<HTMLElement>} */ (element.querySelectorAll(".math"))) renderFormula(place);
  return element;
}

/** A code block: its language, a button that copies it, and text that grows. */
class CodeBlock {
  /** @param {string} language */
  constructor(language) {
    this.language = language;
    this.shown = 0;
    this.text = "";
    this.element = document.createElement("div");
    this.element.className = "code-block";
    const head = this.element.appendChild(document.createElement("div"));
    head.className = "code-head";
    head.appendChild(document.createElement("span")).textContent = language || t("markdown.code");
    const copy = head.appendChild(document.createElement("button"));
    copy.type = "button";
    copy.className = "button plain small";
    copy.textContent = t("markdown.copy");
    copy.setAttribute("aria-label", t("markdown.copy_code"));
    copy.addEventListener("click", () => copyText(this.text.replace(/\n$/, "")));
    const pre = this.element.appendChild(document.createElement("pre"));
    pre.tabIndex = 0;
    this.code = pre.appendChild(document.createElement("code"));
  }

  /** Show this text, which begins with the text before. Return how many characters are new. @param {string} text */
  grow(text) {
    const added = text.slice(this.text.length);
    this.text = text;
    if (!added) return 0;
    this.code.append(added);
    if (text.length <= HIGHLIGHTED_LIVE && highlighter) this.highlight();
    else if (text.length <= HIGHLIGHTED_LIVE) loadHighlighter(this.language);
    return added.length;
  }

  close() {
    if (this.text.length <= HIGHLIGHTED) loadHighlighter(this.language).then(() => drawSoon(this.text.length, () => { if (this.element.isConnected) this.highlight(); }));
  }

  highlight() {
    const text = this.text;
    const colored = highlighter?.(text, this.language);
    if (!colored) return;
    const parts = /** @type {DocumentFragment} */ (/** @type {any} */ (DOMPurify.sanitize(colored, ALLOWED_CODE)));
    if (text.length <= HIGHLIGHTED_LIVE) this.code.replaceChildren(parts);
    else this.colorIn(parts, text);
  }

  /** Put the colored parts in the place of the plain text, some in each frame. @param {DocumentFragment} parts @param {string} text */
  colorIn(parts, text) {
    const rest = document.createTextNode(text);
    this.code.replaceChildren(rest);
    const step = () => {
      const some = document.createDocumentFragment();
      while (parts.firstChild && some.childNodes.length < COLORED) some.append(parts.firstChild);
      rest.deleteData(0, some.textContent?.length ?? 0);
      this.code.insertBefore(some, rest);
      if (parts.firstChild && this.code.isConnected) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }
}

/** What waits for a frame: code and formulas that were written before their library was there. @type {{size: number, draw: () => void}[]} */
const late = [];

let lateFrame = 0;

/** Draw something soon, with bounded work in each frame. @param {number} size @param {() => void} draw */
function drawSoon(size, draw) {
  late.push({ size, draw });
  lateFrame ||= requestAnimationFrame(drawLate);
}

function drawLate() {
  let room = CATCH_UP;
  try {
    do {
      const { size, draw } = /** @type {{size: number, draw: () => void}} */ (late.shift());
      room -= Math.max(size, 100);
      draw();
    } while (late.length && late[0].size <= room);
  } finally {
    lateFrame = late.length ? requestAnimationFrame(drawLate) : 0;
  }
}

const ALIASES = {
  __proto__: null, // an answer may name a language "constructor"
  js: "javascript", jsx: "javascript", mjs: "javascript", ts: "typescript", tsx: "typescript", py: "python", python3: "python", sh: "bash", shell: "bash",
  zsh: "bash", console: "bash", yml: "yaml", html: "xml", svg: "xml", vue: "xml", "c++": "cpp", cs: "csharp", "c#": "csharp", golang: "go", rs: "rust",
  rb: "ruby", kt: "kotlin", md: "markdown", tex: "latex", toml: "ini", docker: "dockerfile", h: "c", hpp: "cpp", patch: "diff", gql: "graphql", ps1: "powershell",
};
const LANGUAGES = new Set(["bash", "c", "cpp", "csharp", "css", "diff", "dockerfile", "go", "graphql", "ini", "java", "javascript", "json", "kotlin", "latex", "lua",
  "makefile", "markdown", "objectivec", "perl", "php", "powershell", "python", "r", "ruby", "rust", "scss", "sql", "swift", "typescript", "xml", "yaml"]);
/** @type {((text: string, language: string) => string|null)|null} */
let highlighter = null;
/** @type {Map<string, Promise<void>>} */
const loading = new Map();

/**
 * Load the highlighter and a language. Without a known language, nothing is loaded.
 * @param {string} language
 * @returns {Promise<void>}
 */
function loadHighlighter(language) {
  const name = ALIASES[language] ?? language;
  if (!LANGUAGES.has(name)) return Promise.resolve();
  let loaded = loading.get(name);
  if (!loaded) {
    loaded = load(name).catch(() => { loading.delete(name); });
    loading.set(name, loaded);
  }
  return loaded;
}

async function load(name) {
  const [{ default: core }, { default: grammar }] = await Promise.all([import("../vendor/highlight/core.js"), import(`../vendor/highlight/${name}.js`)]);
  core.registerLanguage(name, grammar);
  highlighter ??= (text, language) => {
    const known = ALIASES[language] ?? language;
    return core.getLanguage(known) ? core.highlight(text, { language: known, ignoreIllegals: true }).value : null;
  };
}

/** @type {any} */
let temml = null;
/** @type {Promise<void>|null} */
let temmlLoading = null;
/** @type {Map<string, string>} */
const formulas = new Map();

/** Replace the source of a formula by MathML. Until it is loaded, and if it is wrong, the source stays. @param {HTMLElement} place */
function renderFormula(place) {
  const tex = place.textContent ?? "";
  if (tex.length > 2000) return;
  if (!temml) {
    temmlLoading ??= import("../vendor/temml.js").then((module) => { temml = module.default; }, () => { temmlLoading = null; });
    temmlLoading.then(() => drawSoon(tex.length, () => { if (temml && place.isConnected) renderFormula(place); }));
    return;
  }
  const display = place.dataset.display === "block";
  const key = `${display} ${tex}`;
  let mathml = formulas.get(key);
  if (mathml === undefined) {
    try {
      // The policy refuses style attributes, also where a text is only parsed.
      mathml = temml.renderToString(tex, { displayMode: display, throwOnError: true, maxSize: [20, 200], maxExpand: 200, trust: false }).replace(/ style="[^"]*"/g, "");
    } catch {
      mathml = "";
    }
    if (formulas.size > 300) formulas.clear();
    formulas.set(key, /** @type {string} */ (mathml));
  }
  if (mathml) place.replaceChildren(/** @type {any} */ (DOMPurify.sanitize(mathml, ALLOWED_MATH)));
}

/**
 * An answer's Markdown. `text` may grow until `ended`.
 * @param {{text: string, ended?: boolean}} props
 */
export function Markdown({ text, ended = true }) {
  const ref = useRef(/** @type {HTMLElement} */ (/** @type {any} */ (null)));
  const drawing = useRef(/** @type {Drawing|null} */ (null));
  useLayoutEffect(() => () => drawing.current?.stop(), []);
  useLayoutEffect(() => {
    drawing.current ??= new Drawing(ref.current);
    drawing.current.update(text, ended);
  }, [text, ended]);
  return html`<div class=${`markdown ${ended ? "" : "growing"}`} ref=${ref}></div>`;
}

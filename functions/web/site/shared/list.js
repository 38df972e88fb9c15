/**
 * A list that draws only what is in view, for any number of items of any height.
 *
 * It measures what it draws, and estimates the rest. Whatever changes above the first item in view (an item grows, older items
 * are added), that item stays where the reader sees it. A list that sticks to its end follows it, until the reader scrolls up.
 */
import { html, useLayoutEffect, useMemo, useRef, useState } from "./ui.js";

const BEYOND = 400;
/** How many pixels count as "at the end". */
const NEAR = 48;

/** The state of one list: heights, and what to draw. */
class Window {
  constructor() {
    /** @type {Map<string, number>} */
    this.heights = new Map();
    /** @type {any[]} */
    this.items = [];
    /** @type {number[]} The top of each item, and at the end the height of all. */
    this.tops = [0];
    /** @type {Map<string, number>} */
    this.places = new Map();
    /** @type {string[]} */
    this.keys = [];
    this.valid = false;
  }

  /** @param {any[]} items @param {(item: any) => string} keyOf @param {(item: any) => number} estimate */
  set(items, keyOf, estimate) {
    if (this.items === items && this.valid) return;
    this.items = items;
    this.keys = items.map(keyOf);
    this.places = new Map(this.keys.map((key, at) => [key, at]));
    this.tops = new Array(items.length + 1);
    let top = 0;
    for (let at = 0; at < items.length; at++) {
      this.tops[at] = top;
      top += this.heights.get(this.keys[at]) ?? estimate(items[at]);
    }
    this.tops[items.length] = top;
    this.valid = true;
  }

  /** The last item that begins at or above a position. @param {number} position */
  at(position) {
    let low = 0;
    let high = this.items.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.tops[middle] <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  get height() {
    return this.tops[this.items.length];
  }
}

/**
 * @typedef {{scrollTo: (key: string, align?: "start"|"center") => void, scrollToEnd: (smooth?: boolean) => void, atEnd: () => boolean}} ListControl
 */

/**
 * @param {{items: any[], keyOf: (item: any) => string, estimate: (item: any) => number, renderItem: (item: any, index: number) => any,
 *   sticks?: boolean, class?: string, label?: string, role?: string, itemRole?: string, total?: number, before?: any, after?: any,
 *   onStart?: () => void, onEnd?: () => void, onAtEnd?: (atEnd: boolean) => void, control?: {current: ListControl|null}}} props
 *   `before` and `after` are drawn around the items. `onStart` and `onEnd` are called when an end of the list comes into view.
 */
export function WindowedList(props) {
  const { items, keyOf, estimate, renderItem, sticks = false } = props;
  const scroller = useRef(/** @type {HTMLElement} */ (/** @type {any} */ (null)));
  const space = useRef(/** @type {HTMLElement} */ (/** @type {any} */ (null)));
  const [, redraw] = useState(0);
  const [view, setView] = useState({ top: sticks ? Infinity : 0, height: 800 });
  const state = useMemo(() => ({
    window: new Window(),
    stuck: sticks,
    /** @type {{key: string, offset: number}|null} */
    anchor: null,
    /** @type {string|null} */
    target: null,
    lastTop: 0,
    held: false,
    readerAt: -Infinity,
    drawnAt: 0,
    align: "start",
    shown: new Map(),
    draws: 0,
  }), []);
  /** Draw again: at once a few times, then in the next frame, so that heights that do not settle never block the page. */
  const again = (change) => {
    if (state.draws++ < 6) change();
    else requestAnimationFrame(() => { state.draws = 0; change(); });
  };
  const latest = useRef(props);
  latest.current = props;

  const win = state.window;
  win.set(items, keyOf, estimate);
  const top = Math.min(view.top, Math.max(0, win.height - view.height));
  const first = items.length ? win.at(Math.max(0, top - BEYOND)) : 0;
  const last = items.length ? Math.min(items.length, win.at(top + view.height + BEYOND) + 1) : 0;

  const observer = useMemo(() => new ResizeObserver((entries) => {
    let changed = false;
    if (!scroller.current?.clientHeight) return;
    for (const entry of entries) {
      const key = /** @type {HTMLElement} */ (entry.target).dataset.key;
      const height = entry.borderBoxSize[0].blockSize;
      if (key === undefined || !entry.target.isConnected || Math.abs((win.heights.get(key) ?? -1) - height) < 0.5) continue;
      win.heights.set(key, height);
      changed = true;
    }
    if (changed) {
      win.valid = false;
      redraw((count) => count + 1);
    }
  }), []);

  /** The scroll position at which the items begin. */
  const offset = () => space.current.offsetTop;

  // After each draw: measure what is new, then put the view where it was.
  useLayoutEffect(() => {
    const box = scroller.current;
    if (!box.clientHeight) return; // it is hidden: nothing in it has a height
    state.drawnAt = performance.now();
    let changed = false;
    for (const element of /** @type {HTMLCollectionOf<HTMLElement>} */ (space.current.children)) {
      if (!element.dataset.key || state.shown.has(element)) continue;
      state.shown.set(element, true);
      observer.observe(element);
      const key = element.dataset.key ?? "";
      // An item that was drawn before, and is drawn again in several frames, keeps its height meanwhile.
      if (win.heights.has(key) && element.querySelector("[data-drawing]")) element.style.minHeight = `${win.heights.get(key)}px`;
      const height = element.getBoundingClientRect().height;
      if (Math.abs((win.heights.get(key) ?? -1) - height) >= 0.5) {
        win.heights.set(key, height);
        changed = true;
      }
    }
    for (const element of state.shown.keys()) {
      if (element.isConnected) continue;
      observer.unobserve(element);
      state.shown.delete(element);
    }
    if (changed) {
      win.valid = false;
      again(() => redraw((count) => count + 1));
      return;
    }
    let wanted = box.scrollTop;
    const at = win.places.get(state.target ?? "");
    const anchored = win.places.get(state.anchor?.key ?? "");
    if (state.target !== null && at !== undefined) {
      wanted = offset() + win.tops[at] - (state.align === "center" ? (box.clientHeight - (win.tops[at + 1] - win.tops[at])) / 2 : 16);
    } else if (state.stuck) wanted = box.scrollHeight;
    else if (state.anchor && anchored !== undefined) wanted = offset() + win.tops[anchored] + state.anchor.offset;
    wanted = Math.max(0, Math.min(wanted, box.scrollHeight - box.clientHeight));
    if (Math.abs(wanted - box.scrollTop) >= 1) {
      box.scrollTop = wanted;
    }
    look();
  });

  /** Note what is in view. */
  const look = () => {
    const box = scroller.current;
    if (!box.clientHeight) return;
    const inside = box.scrollTop - offset();
    if (win.items.length) {
      let at = win.at(Math.max(0, inside));
      // An item that begins in view: what is above it may still change its height.
      if (win.tops[at] < inside && win.tops[at + 1] < inside + box.clientHeight / 2 && at + 1 < win.items.length) at += 1;
      state.anchor = { key: win.keys[at], offset: inside - win.tops[at] };
    }
    if (inside !== view.top || box.clientHeight !== view.height) again(() => setView({ top: box.scrollTop - offset(), height: box.clientHeight }));
    else state.draws = 0;
    if (box.scrollTop < BEYOND) latest.current.onStart?.();
    if (box.scrollHeight - box.scrollTop - box.clientHeight < BEYOND) latest.current.onEnd?.();
  };

  const isAtEnd = () => scroller.current.scrollHeight - scroller.current.scrollTop - scroller.current.clientHeight < NEAR;
  const onScroll = () => {
    const box = scroller.current;
    const end = isAtEnd();
    const now = performance.now();
    const byReader = state.held || now - state.readerAt < 400;
    if (byReader) state.readerAt = now; // a fling goes on without the finger
    // A list that shrinks or grows scrolls too, and then it stays at its end.
    if (sticks && (byReader || now - state.drawnAt > 150) && box.scrollTop < state.lastTop - 1 && !end) state.stuck = false;
    if (sticks && end) state.stuck = true;
    state.lastTop = box.scrollTop;
    latest.current.onAtEnd?.(end);
    look();
  };
  const settle = (event) => { /** @type {HTMLElement|null} */ (event.target.closest("[data-key]"))?.style.removeProperty("min-height"); };
  const free = () => Object.assign(state, { target: null, readerAt: performance.now() });
  const hold = () => {
    free();
    state.held = true;
    addEventListener("pointerup", () => { state.held = false; }, { once: true });
  };

  useLayoutEffect(() => {
    const box = scroller.current;
    const resized = new ResizeObserver(() => redraw((count) => count + 1));
    resized.observe(box);
    return () => { resized.disconnect(); observer.disconnect(); };
  }, []);

  if (props.control) {
    props.control.current = {
      scrollTo(key, align = "start") {
        Object.assign(state, { target: key, align, stuck: false });
        redraw((count) => count + 1);
      },
      scrollToEnd(smooth = false) {
        Object.assign(state, { target: null, stuck: true });
        if (smooth && !matchMedia("(prefers-reduced-motion: reduce)").matches) scroller.current.scrollTo({ top: scroller.current.scrollHeight, behavior: "smooth" });
        else redraw((count) => count + 1);
      },
      atEnd: () => isAtEnd(),
    };
  }

  const above = win.tops[first] ?? 0;
  const below = win.height - (win.tops[last] ?? 0);
  return html`<div class=${`windowed ${props.class ?? ""}`} ref=${scroller} onScroll=${onScroll} onWheel=${free} onTouchMove=${free} onPointerDown=${hold} onKeyDown=${free} tabindex="-1">
    ${props.before}
    <div ref=${space} ondrawn=${settle} role=${props.role} aria-label=${props.label}>
      <div style=${{ height: `${above}px` }} role="presentation"></div>
      ${items.slice(first, last).map((item, at) => html`<div key=${win.keys[first + at]} data-key=${win.keys[first + at]} role=${props.itemRole}
        aria-setsize=${props.itemRole === "listitem" ? props.total ?? items.length : undefined} aria-posinset=${props.itemRole === "listitem" ? first + at + 1 : undefined}>${renderItem(item, first + at)}</div>`)}
      <div style=${{ height: `${Math.max(0, below)}px` }} role="presentation"></div>
    </div>
    ${props.after}
  </div>`;
}

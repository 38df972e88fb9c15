/**
 * Charts by day, drawn as SVG: stacked bars, or lines. The pointer and the arrow keys choose a day, whose values are shown and
 * read. A table below each chart has all values.
 */
import { language, t } from "../shared/text.js";
import { html, useId, useLayoutEffect, useRef, useState } from "../shared/ui.js";

/** @typedef {{name: string, label: string, values: (number|null)[], color?: number}} Series */
/** @typedef {{days: string[], series: Series[], kind: "bars"|"lines", format: (value: number) => string, tick: (value: number) => string}} Drawing */

const HEIGHT = 196;
const [TOP, BOTTOM, LEFT, RIGHT] = [10, 24, 46, 6];
const TICKS = 4;

/** A number as short as an axis needs it. @param {number} value */
export function shortNumber(value) {
  return new Intl.NumberFormat(language.value === "zh" ? "zh-CN" : "en", { notation: "compact", maximumFractionDigits: 1 }).format(value);
}

/** @param {string} day YYYY-MM-DD, in UTC @param {"short"|"long"} [length] */
export function formatDay(day, length = "short") {
  /** @type {Intl.DateTimeFormatOptions} */
  const style = length === "long" ? { weekday: "short", month: "short", day: "numeric", year: "numeric" } : { month: "short", day: "numeric" };
  return new Intl.DateTimeFormat(language.value === "zh" ? "zh-CN" : "en", { ...style, timeZone: "UTC" }).format(new Date(`${day}T00:00:00Z`));
}

/** Return even steps from 0 to above the largest value. @param {number} most */
function ticksUpTo(most) {
  if (most <= 0) return [0, 1];
  const rough = most / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power;
  const steps = Math.ceil(most / step - 1e-9);
  return Array.from({ length: steps + 1 }, (_, index) => Number((index * step).toPrecision(12)));
}

/**
 * @param {{title: string, total?: string, text?: string, days: string[], series: Series[], kind?: "bars"|"lines",
 *   format: (value: number) => string, tick?: (value: number) => string, wide?: boolean}} props
 */
export function Chart({ title, total, text, days, series, kind = "bars", format, tick = shortNumber, wide }) {
  const frame = useRef(/** @type {HTMLElement|null} */ (null));
  const [width, setWidth] = useState(0);
  const [at, setAt] = useState(/** @type {number|null} */ (null));
  const id = useId();
  useLayoutEffect(() => {
    const measure = () => setWidth(Math.floor(frame.current?.clientWidth ?? 0));
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(/** @type {HTMLElement} */ (frame.current));
    return () => observer.disconnect();
  }, []);

  const empty = series.every((one) => one.values.every((value) => !value));
  const shown = series.filter((one) => series.length === 1 || one.values.some((value) => value));
  const inner = Math.max(0, width - LEFT - RIGHT);
  const place = (event) => {
    const x = event.clientX - event.currentTarget.getBoundingClientRect().left - LEFT;
    setAt(Math.min(days.length - 1, Math.max(0, Math.floor((x / inner) * days.length))));
  };
  const onKeyDown = (event) => {
    const moves = { ArrowRight: (at ?? -1) + 1, ArrowLeft: (at ?? days.length) - 1, Home: 0, End: days.length - 1 };
    if (event.key === "Escape") setAt(null);
    if (moves[event.key] === undefined) return;
    event.preventDefault();
    setAt(Math.min(days.length - 1, Math.max(0, moves[event.key])));
  };
  const values = at === null ? "" : [formatDay(days[at], "long"), ...series.map((one) => `${one.label}: ${one.values[at] === null ? "–" : format(Number(one.values[at]))}`)].join(", ");

  return html`<figure class=${`chart ${wide ? "wide" : ""}`} aria-labelledby=${id}>
    <figcaption><h2 id=${id}>${title}</h2>${total && html`<span class="total number">${total}</span>`}${text && html`<p class="muted small">${text}</p>`}</figcaption>
    ${shown.length > 1 && html`<ul class="legend" aria-hidden="true">${shown.map((one) => html`<li key=${one.name}><span class=${`swatch c${one.color ?? series.indexOf(one) + 1}`}></span>${one.label}</li>`)}</ul>`}
    <div class="plot" ref=${frame}>
      ${empty ? html`<p class="nothing muted small">${t("console.chart.nothing")}</p>` : width > 0 && html`<svg width=${width} height=${HEIGHT} viewBox=${`0 0 ${width} ${HEIGHT}`} role="application" tabindex="0"
        aria-roledescription=${t("console.chart.role")} aria-label=${`${title}. ${t("console.chart.keys")}`} onPointerMove=${place} onPointerDown=${place} onPointerLeave=${() => setAt(null)}
        onBlur=${() => setAt(null)} onKeyDown=${onKeyDown}>
        <${Drawn} ...${{ days, series, kind, format, tick, width, inner, at }} /></svg>`}
      ${at !== null && html`<${Tip} ...${{ day: days[at], series: shown, all: series, at, format, width, x: LEFT + ((at + 0.5) * inner) / days.length }} />`}
      <p class="hidden-text" role="status">${values}</p>
    </div>
    ${!empty && html`<details class="as-table"><summary>${t("console.chart.table")}</summary><div class="table-frame" tabindex="0" role="group" aria-label=${title}><table class="table">
      <thead><tr><th scope="col">${t("console.chart.day")}</th>${series.map((one) => html`<th key=${one.name} scope="col" class="number">${one.label}</th>`)}</tr></thead>
      <tbody>${days.map((day, index) => html`<tr key=${day}><th scope="row">${formatDay(day)}</th>${series.map((one) => html`<td key=${one.name} class="number">${one.values[index] === null ? "–" : format(Number(one.values[index]))}</td>`)}</tr>`).reverse()}</tbody>
    </table></div></details>`}
  </figure>`;
}

/** @param {Drawing & {width: number, inner: number, at: number|null}} props */
function Drawn({ days, series, kind, tick, width, inner, at }) {
  const sums = days.map((_, day) => (kind === "bars" ? series.reduce((sum, one) => sum + (one.values[day] ?? 0), 0) : Math.max(0, ...series.map((one) => one.values[day] ?? 0))));
  const steps = ticksUpTo(Math.max(...sums));
  const plot = HEIGHT - TOP - BOTTOM;
  const y = (/** @type {number} */ value) => TOP + plot - (value / steps[steps.length - 1]) * plot;
  const slot = inner / days.length;
  const x = (/** @type {number} */ day) => LEFT + (day + 0.5) * slot;
  const every = Math.ceil(days.length / Math.max(2, Math.floor(inner / 76)));
  return html`
    ${steps.map((value) => html`<g key=${value}><line class=${value === 0 ? "axis" : "rule"} x1=${LEFT} x2=${width - RIGHT} y1=${Math.round(y(value)) + 0.5} y2=${Math.round(y(value)) + 0.5} />
      <text class="label" x=${LEFT - 8} y=${y(value) + 4} text-anchor="end">${tick(value)}</text></g>`)}
    ${days.map((day, index) => (days.length - 1 - index) % every === 0 && html`<text key=${day} class="label" x=${x(index)} y=${HEIGHT - 6} text-anchor=${index === days.length - 1 && slot < 40 ? "end" : "middle"}>${formatDay(day)}</text>`)}
    ${at !== null && html`<rect class="marked" x=${LEFT + at * slot} y=${TOP} width=${slot} height=${plot} />`}
    ${kind === "bars" ? html`<${Bars} ...${{ days, series, x, y, slot }} />` : html`<${Lines} ...${{ days, series, x, y, at }} />`}`;
}

/** @param {any} props */
function Bars({ days, series, x, y, slot }) {
  const width = Math.max(1, Math.min(28, slot * 0.68));
  return days.map((day, index) => {
    let below = 0;
    const pieces = series.map((one, order) => ({ value: one.values[index] ?? 0, color: one.color ?? order + 1, name: one.name })).filter((piece) => piece.value > 0);
    return html`<g key=${day}>${pieces.map((piece, order) => {
      const [bottom, top] = [y(below), y(below + piece.value)];
      below += piece.value;
      const height = Math.max(1, bottom - top - (order > 0 ? 0 : 0));
      const last = order === pieces.length - 1;
      return html`<path key=${piece.name} class=${`bar c${piece.color}`} d=${barPath(x(index) - width / 2, top, width, height, last ? Math.min(3, width / 3, height) : 0)} />`;
    })}</g>`;
  });
}

/** A bar whose upper corners are round. */
function barPath(x, y, width, height, radius) {
  return `M${x} ${y + height}V${y + radius}Q${x} ${y} ${x + radius} ${y}H${x + width - radius}Q${x + width} ${y} ${x + width} ${y + radius}V${y + height}Z`;
}

/** @param {any} props */
function Lines({ days, series, x, y, at }) {
  return series.map((one, order) => {
    const color = one.color ?? order + 1;
    let path = "";
    one.values.forEach((value, index) => {
      if (value === null) return;
      path += `${index > 0 && one.values[index - 1] !== null ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    });
    const alone = (index) => one.values[index - 1] == null && one.values[index + 1] == null;
    return html`<g key=${one.name}><path class=${`line c${color}`} d=${path} />
      ${days.map((day, index) => one.values[index] !== null && (index === at || alone(index)) && html`<circle key=${day} class=${`dot c${color}`} cx=${x(index)} cy=${y(one.values[index])} r="4" />`)}</g>`;
  });
}

/** The values of one day beside the pointer. @param {any} props */
function Tip({ day, series, all, at, format, width, x }) {
  const right = x > width / 2;
  return html`<div class=${`tip ${right ? "to-left" : ""}`} aria-hidden="true" ref=${(element) => { if (element) element.style.left = `${x}px`; }}>
    <strong>${formatDay(day, "long")}</strong>
    ${[...series].reverse().map((one) => html`<div key=${one.name} class="row"><span class=${`swatch c${one.color ?? all.indexOf(one) + 1}`}></span><span class="grow">${one.label}</span><span class="number">${one.values[at] === null ? "–" : format(one.values[at])}</span></div>`)}
  </div>`;
}

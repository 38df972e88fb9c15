/** Statistics: users, answers, tokens, credits, failures and times to the first token, by day and by model. */
import { formatNumber, t } from "../shared/text.js";
import { Segments, html, useState } from "../shared/ui.js";
import { read, useLoad, withQuery } from "./calls.js";
import { Chart, shortNumber } from "./chart.js";
import { Figure, Figures, Heading, Loaded, Panel, Table, named } from "./parts.js";
import { address } from "./routes.js";

const RANGES = [7, 30, 90];
const SHOWN_MODELS = 4;
const BOUNDS = [250, 500, 1000, 2000, 4000, 8000, 16000];

/** @param {number} days */
const since = (days) => new Date(Date.now() - (days - 1) * 86_400_000).toISOString().slice(0, 10);

export default function Overview() {
  const [days, setDays] = useState(30);
  const stats = useLoad((signal) => read(withQuery("/admin/stats", { from: since(days) }), signal), String(days));
  return html`
    <${Heading} title=${t("console.page.overview")} text=${t("console.overview.text")}>
      <${Segments} label=${t("console.overview.range")} value=${days} onChange=${setDays} options=${RANGES.map((value) => ({ value, label: t("console.overview.days", { days: value }) }))} />
    <//>
    <${Loaded} of=${stats}>${(data) => html`<${Statistics} data=${data} />`}<//>`;
}

/**
 * Return about how many milliseconds this share of the answers took to the first token at most, or null without answers.
 * @param {Record<string, number>} counts by upper bound @param {number} share
 */
export function quantile(counts, share) {
  const groups = [...BOUNDS.map((bound, index) => ({ from: index ? BOUNDS[index - 1] : 0, to: bound, count: counts[bound] ?? 0 })), { from: 16000, to: 32000, count: counts.more ?? 0 }];
  const all = groups.reduce((sum, group) => sum + group.count, 0);
  if (!all) return null;
  let left = share * all;
  for (const group of groups) {
    if (left <= group.count) return group.from + (group.to - group.from) * (left / (group.count || 1));
    left -= group.count;
  }
  return 32000;
}

/** @param {number} milliseconds */
const seconds = (milliseconds) => t("console.seconds", { seconds: formatNumber(Number((milliseconds / 1000).toFixed(milliseconds < 10_000 ? 1 : 0))) });

/** @param {number} part @param {number} whole */
const percent = (part, whole) => (whole ? `${formatNumber(Number(((100 * part) / whole).toFixed(1)))} %` : "–");

/** @param {{data: any}} props */
function Statistics({ data }) {
  const days = data.days.map((day) => day.day);
  const by = (/** @type {string} */ name) => data.days.map((day) => day[name]);
  const uncovered = (day) => Object.values(day.uncovered).reduce((sum, value) => sum + Number(value), 0);
  const lost = Object.values(data.uncovered).reduce((/** @type {number} */ sum, value) => sum + Number(value), 0);
  const ended = data.tasks + data.failed;
  const middle = quantile(data.first_token, 0.5);
  const models = splitModels(data);
  return html`
    <${Figures}>
      <${Figure} label=${t("console.overview.users")} value=${formatNumber(data.users.total)} text=${t("console.overview.signed_up", { count: data.users.signed_up })} />
      <${Figure} label=${t("console.overview.answers")} value=${formatNumber(data.tasks)} text=${t("console.overview.tokens_short", { tokens: shortNumber(data.input_tokens + data.output_tokens) })} />
      <${Figure} label=${t("console.overview.credits")} value=${formatNumber(data.credits)} text=${lost ? t("console.overview.uncovered", { credits: lost }) : t("console.overview.all_covered")} />
      <${Figure} label=${t("console.overview.failed")} value=${percent(data.failed, ended)} text=${t("console.overview.failed_count", { count: data.failed })} kind=${ended && data.failed / ended > 0.05 ? "bad" : ""} />
      <${Figure} label=${t("console.overview.first_token_short")} value=${middle === null ? "–" : seconds(middle)} text=${middle === null ? t("console.overview.first_token_none") : t("console.overview.first_token_95", { time: seconds(Number(quantile(data.first_token, 0.95))) })} />
      <${Figure} label=${t("console.overview.rated")} value=${data.rated_up + data.rated_down > 0 ? percent(data.rated_up, data.rated_up + data.rated_down) : "–"} text=${t("console.overview.rated_count", { up: data.rated_up, down: data.rated_down })} />
    <//>
    <div class="charts">
      <${Chart} wide title=${t("console.overview.credits_by_model")} total=${formatNumber(data.credits)} days=${days} format=${formatNumber} series=${models} />
      <${Chart} title=${t("console.overview.answers")} total=${formatNumber(ended)} days=${days} format=${formatNumber} series=${[
        { name: "tasks", label: t("console.overview.billed"), values: by("tasks") },
        { name: "failed", label: t("console.overview.failures"), values: by("failed"), color: 6 },
      ]} />
      <${Chart} title=${t("console.overview.first_token")} text=${t("console.overview.first_token_text")} kind="lines" days=${days} format=${seconds} tick=${(value) => seconds(value)} series=${[
        { name: "p50", label: t("console.overview.half"), values: data.days.map((day) => quantile(day.first_token, 0.5)) },
        { name: "p95", label: t("console.overview.most"), values: data.days.map((day) => quantile(day.first_token, 0.95)) },
      ]} />
      <${Chart} title=${t("console.overview.tokens")} total=${shortNumber(data.input_tokens + data.output_tokens)} days=${days} format=${formatNumber} series=${[
        { name: "input", label: t("console.overview.input"), values: by("input_tokens"), color: 3 },
        { name: "output", label: t("console.overview.output"), values: by("output_tokens"), color: 1 },
      ]} />
      <${Chart} title=${t("console.overview.new_users")} total=${formatNumber(data.users.signed_up)} text=${t("console.overview.deleted", { count: data.users.deleted })} days=${days} format=${formatNumber}
        series=${[{ name: "signed_up", label: t("console.overview.new_users"), values: by("signed_up"), color: 3 }]} />
      <${Chart} title=${t("console.overview.losses")} text=${t("console.overview.losses_text")} total=${formatNumber(data.days.reduce((sum, day) => sum + uncovered(day), 0))} days=${days} format=${formatNumber}
        series=${[{ name: "uncovered", label: t("console.overview.losses"), values: data.days.map(uncovered), color: 6 }]} />
      <${Chart} title=${t("console.overview.ratings")} total=${formatNumber(Math.max(0, data.rated_up) + Math.max(0, data.rated_down))} days=${days} format=${formatNumber} series=${[
        { name: "up", label: t("console.rating.up"), values: by("rated_up").map((value) => Math.max(0, value)) },
        { name: "down", label: t("console.rating.down"), values: by("rated_down").map((value) => Math.max(0, value)), color: 6 },
      ]} />
    </div>
    ${data.models.length > 0 && html`<${Panel} title=${t("console.overview.by_model")}><${Table} label=${t("console.overview.by_model")} rows=${[...data.models].sort((a, b) => b.credits - a.credits)} id=${(row) => row.model} columns=${[
      { name: "model", label: t("console.model"), cell: (row) => html`<code>${row.model}</code>` },
      { name: "tasks", label: t("console.overview.answers"), number: true, cell: (row) => formatNumber(row.tasks) },
      { name: "failed", label: t("console.overview.failed"), number: true, cell: (row) => percent(row.failed, row.tasks + row.failed) },
      { name: "input", label: t("console.overview.input"), number: true, cell: (row) => formatNumber(row.input_tokens) },
      { name: "output", label: t("console.overview.output"), number: true, cell: (row) => formatNumber(row.output_tokens) },
      { name: "credits", label: t("console.overview.credits"), number: true, cell: (row) => formatNumber(row.credits) },
      { name: "first", label: t("console.overview.half_short"), number: true, cell: (row) => { const half = quantile(row.first_token, 0.5); return half === null ? "–" : seconds(half); } },
    ]} /><//>`}
    ${Object.keys(data.uncovered).length > 0 && html`<${Panel} title=${t("console.overview.losses_by_code")} text=${t("console.overview.losses_text")}><${Table} label=${t("console.overview.losses_by_code")}
      rows=${Object.entries(data.uncovered).sort((a, b) => Number(b[1]) - Number(a[1]))} id=${(row) => row[0]} columns=${[
        { name: "code", label: t("console.error_code"), cell: (row) => html`${named("console.failure", row[0])} <code class="muted">${row[0]}</code>` },
        { name: "credits", label: t("console.overview.credits"), number: true, cell: (row) => formatNumber(Number(row[1])) },
      ]} /><//>`}
    ${data.presets.length > 0 && html`<${Panel} title=${t("console.overview.by_preset")}><${Table} label=${t("console.overview.by_preset")} rows=${data.presets} id=${(row) => row.preset_id} columns=${[
      { name: "preset", label: t("console.preset"), cell: (row) => html`<a href=${address(["feedback"], { preset_id: row.preset_id })}><code>${row.preset_id}</code></a>` },
      { name: "up", label: t("console.rating.up"), number: true, cell: (row) => formatNumber(row.rated_up) },
      { name: "down", label: t("console.rating.down"), number: true, cell: (row) => formatNumber(row.rated_down) },
    ]} /><//>`}`;
}

/** Return the credits of the models that cost most, and of all others together. @param {any} data */
function splitModels(data) {
  const names = [...data.models].sort((a, b) => b.credits - a.credits).map((model) => model.model);
  const credits = (day, model) => day.models.find((one) => one.model === model)?.credits ?? 0;
  const [first, rest] = [names.slice(0, SHOWN_MODELS), names.slice(SHOWN_MODELS)];
  const series = first.map((model, index) => ({ name: model, label: model, color: index + 1, values: data.days.map((day) => credits(day, model)) }));
  if (rest.length) series.push({ name: "", label: t("console.overview.other_models"), color: 5, values: data.days.map((day) => rest.reduce((sum, model) => sum + credits(day, model), 0)) });
  return series.length ? series : [{ name: "none", label: "", color: 1, values: data.days.map(() => 0) }];
}

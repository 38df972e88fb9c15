/** Models and prices, read only: what each one costs and can do, and what retires. */
import { formatNumber, t } from "../shared/text.js";
import { Notice, html, useState, Segments } from "../shared/ui.js";
import { read, useList, useLoad } from "./calls.js";
import { Heading, Loaded, Table } from "./parts.js";
import { address } from "./routes.js";
import { formatDay, shortNumber } from "./chart.js";

const SOON_DAYS = 60;

/** @param {string} day the first day without the model */
const daysUntil = (day) => Math.ceil((Date.parse(`${day}T00:00:00+08:00`) - Date.now()) / 86_400_000);

export default function Models() {
  const prices = useLoad((signal) => read("/prices", signal));
  return html`
    <${Heading} title=${t("console.page.models")} text=${prices.data ? t("console.models.text", { per: prices.data.per, region: t(`console.region.${prices.data.region}`), version: prices.data.version }) : t("console.models.text_short")} />
    <${Loaded} of=${prices}>${(data) => html`<${ModelList} data=${data} />`}<//>`;
}

/** @param {{data: any}} props */
function ModelList({ data }) {
  const [which, setWhich] = useState("available");
  const presets = useList("/presets?limit=100");
  const going = data.models.filter((model) => model.status === "available" && model.retires_on).sort((a, b) => a.retires_on.localeCompare(b.retires_on));
  const users = (model) => presets.items.filter((preset) => preset.parameters.model === model);
  const gone = data.models.filter((model) => model.status === "retired" && users(model.model).length);
  const rows = data.models.filter((model) => which === "all" || (which === "retires" ? model.retires_on || model.status === "retired" : model.status === "available"));
  return html`
    ${[...gone, ...going].map((model) => html`<${Notice} key=${model.model} kind=${model.status === "retired" || daysUntil(model.retires_on) <= SOON_DAYS ? "warning" : "info"}>
      <p><strong><code>${model.model}</code></strong> ${model.status === "retired" ? t("console.models.is_gone") : t("console.models.goes", { day: formatDay(model.retires_on, "long"), days: daysUntil(model.retires_on) })}</p>
      ${users(model.model).length > 0 && html`<p class="small">${t("console.models.used_by")} ${users(model.model).map((preset, index) => html`${index > 0 && ", "}<a href=${address(["presets", preset.id])}>${preset.title}</a>`)}</p>`}<//>`)}
    <div class="row wrap between toolbar"><${Segments} label=${t("console.models.which")} value=${which} onChange=${setWhich} options=${["available", "retires", "all"].map((value) => ({ value, label: t(`console.models.${value}`) }))} />
      <span class="muted small">${t("console.models.count", { count: rows.length })}</span></div>
    <${Table} label=${t("console.page.models")} rows=${rows} id=${(row) => row.model} columns=${[
      { name: "model", label: t("console.model"), wide: true, cell: (row) => html`<span class="who"><code class="strong">${row.model}</code>${row.status === "retired" ? html`<span class="badge danger">${t("console.models.retired")}</span>`
        : row.retires_on && html`<span class="badge warning">${t("console.models.until", { day: formatDay(row.retires_on) })}</span>`}</span>` },
      { name: "up_to", label: t("console.models.up_to"), number: true, cell: (row) => html`<${Tiers} model=${row} show=${(tier) => shortNumber(tier.up_to)} />` },
      ...["input", "cached", "output", "thinking"].map((name) => ({ name, label: t(`console.models.${name}`), number: true, cell: (row) => html`<${Tiers} model=${row} show=${(tier) => (tier[name] === undefined ? "–" : formatNumber(tier[name]))} />` })),
      { name: "context", label: t("console.models.context"), number: true, cell: (row) => shortNumber(row.context) },
      { name: "longest", label: t("console.models.longest"), number: true, cell: (row) => shortNumber(row.max_output) },
      { name: "can", label: t("console.models.can"), wide: true, cell: (row) => html`<span class="row wrap abilities">${abilities(row).map((name) => html`<span class="badge" key=${name}>${name}</span>`)}</span>` },
    ]} />`;
}

/** One value of each tier of a model, one below the other. @param {{model: any, show: (tier: any) => string}} props */
function Tiers({ model, show }) {
  return model.tiers.map((tier) => html`<span class="block tier" key=${tier.up_to}>${show(tier)}</span>`);
}

/** @param {any} model */
function abilities(model) {
  return [
    model.thinking !== "never" && t(model.thinking === "always" ? "console.models.thinks_always" : "console.models.thinks"),
    model.vision && t("console.models.vision"),
    model.search && t("console.models.search"),
    model.tools && t("console.models.tools"),
    model.structured_output.length > 0 && "JSON",
  ].filter(Boolean);
}

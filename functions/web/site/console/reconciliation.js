/** The last check of all credits, and the one that runs. */
import { ApiError } from "../shared/session.js";
import { formatNumber, t } from "../shared/text.js";
import { Button, Empty, Icon, Notice, html } from "../shared/ui.js";
import { read, useLoad } from "./calls.js";
import { Figure, Figures, Heading, Id, Loaded, Panel, Table, Time } from "./parts.js";
import { address } from "./routes.js";

const RULES = ["I1", "I2", "I3", "I4", "I5"];

export default function Reconciliation() {
  const runs = useLoad(async (signal) => {
    try {
      return await read("/admin/reconciliation", signal);
    } catch (error) {
      if (error instanceof ApiError && error.code === "no_reconciliation") return { last: null, running: null };
      throw error;
    }
  });
  return html`
    <${Heading} title=${t("console.page.reconciliation")} text=${t("console.reconciliation.text")}><${Button} icon="again" busy=${runs.loading && runs.data !== undefined} onClick=${runs.reload}>${t("console.refresh")}<//><//>
    <${Loaded} of=${runs}>${(data) => html`
      ${data.running && html`<${Notice}><p>${t("console.reconciliation.running", { users: data.running.users, tasks: data.running.tasks })} ${t("console.reconciliation.began")} <${Time} value=${data.running.started} /></p><//>`}
      ${data.last ? html`<${Run} run=${data.last} />` : html`<${Empty} icon="check" title=${t("console.reconciliation.none")}><p>${t("console.reconciliation.none_text")}</p><//>`}`}<//>`;
}

/** @param {{run: any}} props */
function Run({ run }) {
  const drifts = RULES.reduce((sum, rule) => sum + (run.drifts[rule] ?? 0), 0);
  return html`
    <${Notice} kind=${drifts ? "danger" : "info"}><p><strong>${drifts ? t("console.reconciliation.drifts", { count: drifts }) : t("console.reconciliation.good")}</strong></p>
      <p>${t("console.reconciliation.ended")} <${Time} value=${run.ended} /></p><//>
    <${Figures}>
      <${Figure} label=${t("console.reconciliation.users")} value=${formatNumber(run.users)} />
      <${Figure} label=${t("console.reconciliation.entries")} value=${formatNumber(run.entries)} text=${t("console.reconciliation.entries_text")} />
      <${Figure} label=${t("console.reconciliation.tasks")} value=${formatNumber(run.tasks)} text=${t("console.reconciliation.tasks_text")} />
      <${Figure} label=${t("console.reconciliation.codes")} value=${formatNumber(run.codes)} />
      <${Figure} label=${t("console.reconciliation.moving")} value=${formatNumber(run.moving)} text=${t("console.reconciliation.moving_text")} />
    <//>
    <${Panel} title=${t("console.reconciliation.rules")}><ul class="rules">${RULES.map((rule) => html`<li key=${rule} class=${run.drifts[rule] ? "bad" : ""}>
      <${Icon} name=${run.drifts[rule] ? "warning" : "check"} /><span class="grow"><strong>${rule}</strong> ${t(`console.rule.${rule}`)}</span><span class="number">${run.drifts[rule] ? t("console.reconciliation.count", { count: run.drifts[rule] }) : t("console.reconciliation.holds")}</span></li>`)}</ul><//>
    ${run.examples.length > 0 && html`<${Panel} title=${t("console.reconciliation.examples")} text=${t("console.reconciliation.examples_text")}><${Table} label=${t("console.reconciliation.examples")} rows=${run.examples} id=${(row) => JSON.stringify(row)} columns=${[
      { name: "rule", label: t("console.reconciliation.rule"), cell: (row) => html`<strong>${row.rule}</strong>` },
      { name: "user", label: t("console.users.user"), cell: (row) => html`<${Id} value=${row.user_id} href=${row.user_id ? address(["users", row.user_id]) : undefined} />` },
      { name: "task", label: t("console.users.task"), cell: (row) => html`<${Id} value=${row.task_id} />` },
      { name: "entry", label: t("console.reconciliation.entry"), cell: (row) => html`<${Id} value=${row.entry_id} />` },
      { name: "code", label: t("console.codes.code"), cell: (row) => html`<${Id} value=${row.code} href=${row.code ? address(["codes", "code", row.code]) : undefined} />` },
    ]} /><//>`}`;
}

/** Dead letters: messages of the queues that failed five times. */
import { explain } from "../shared/session.js";
import { formatNumber, t } from "../shared/text.js";
import { Button, Empty, Notice, confirm, html, toast, useState } from "../shared/ui.js";
import { ask, read, useLoad } from "./calls.js";
import { Heading, Id, Loaded, Table, Time, named } from "./parts.js";

const LEFT = ["pending", "waiting"];

export default function Letters() {
  const letters = useLoad((signal) => read("/admin/dead-letters", signal));
  const [busy, setBusy] = useState(false);
  const count = letters.data?.count ?? 0;
  const putBack = async () => {
    if (!await confirm({ title: t("console.letters.put_back_title", { count }), text: t("console.letters.put_back_text"), action: t("console.letters.put_back"), danger: false })) return;
    setBusy(true);
    try {
      const { data } = await ask("POST", "/admin/dead-letters/redrive");
      toast(t(data.kept ? "console.letters.done_kept" : "console.letters.done", { moved: data.moved, kept: data.kept }));
      letters.reload();
    } catch (error) {
      toast(explain(error));
    } finally {
      setBusy(false);
    }
  };
  return html`
    <${Heading} title=${t("console.page.letters")} text=${t("console.letters.text")}>
      <${Button} icon="again" disabled=${letters.loading} onClick=${letters.reload}>${t("console.refresh")}<//>
      <${Button} kind="primary" icon="share" busy=${busy} disabled=${!count} onClick=${putBack}>${t("console.letters.put_back")}<//>
    <//>
    <${Loaded} of=${letters}>${(data) => (data.count ? html`
      <${Notice} kind="warning">${t("console.letters.count", { count: data.count })}${data.count > data.letters.length ? ` ${t("console.letters.shown", { count: data.letters.length })}` : ""}<//>
      <${Table} label=${t("console.page.letters")} rows=${data.letters} id=${(row) => `${row.task_id ?? row.job ?? ""} ${row.since} ${row.received}`} columns=${[
        { name: "about", label: t("console.letters.about"), wide: true, cell: (row) => html`<span class="who"><strong>${t(`console.queue.${row.queue ?? "none"}`)}</strong>${(row.task_id || row.job) && html`<${Id} value=${row.task_id ?? row.job} />`}</span>` },
        { name: "state", label: t("console.letters.state"), cell: (row) => html`<span class=${`badge ${LEFT.includes(row.state) ? "warning" : ""}`}>${t(`console.letter_state.${row.state}`)}</span>${row.error && html` <span class="muted small">${named("console.failure", row.error)}</span>`}` },
        { name: "since", label: t("console.letters.since"), cell: (row) => html`<${Time} value=${row.since} />` },
        { name: "received", label: t("console.letters.received"), number: true, cell: (row) => formatNumber(row.received) },
      ]} />` : html`<${Empty} icon="check" title=${t("console.letters.none")}><p>${t("console.letters.none_text")}</p><//>`)}<//>`;
}

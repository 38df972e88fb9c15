/** The audit trail: what administrators did with what is another's. */
import { t } from "../shared/text.js";
import { Button, html } from "../shared/ui.js";
import { useForm, useList, withQuery } from "./calls.js";
import { Heading, Id, ListTable, None, Select, TextField, Time, named } from "./parts.js";
import { address, go } from "./routes.js";

const ACTIONS = [
  "users.list", "user.read", "user.ledger", "user.change", "user.permission", "user.password", "user.grant", "user.delete",
  "key.list", "key.revoke",
  "chat.read", "chat.export", "chat.copy", "chat.change", "chat.delete", "chat.like", "share.list", "share.revoke",
  "preset.read", "preset.use", "preset.create", "preset.change", "preset.delete", "preset.like",
  "codes.list", "code.read", "codes.create", "code.revoke", "batch.revoke", "feedback.list", "config.change", "dead_letters.redrive",
];

/** @param {{query: URLSearchParams}} props */
export default function Audit({ query }) {
  const wanted = { admin: query.get("admin") ?? "", user: query.get("user") ?? "", action: query.get("action") ?? "" };
  const [form, setForm] = useForm(wanted);
  const list = useList(withQuery("/admin/audit", { limit: 50, ...wanted }));
  const set = (name) => (value) => setForm((before) => ({ ...before, [name]: value.trim() }));
  const apply = (event) => { event.preventDefault(); go(["audit"], form); };
  const filtered = wanted.admin || wanted.user || wanted.action;
  return html`
    <${Heading} title=${t("console.page.audit")} text=${t("console.audit.text")} />
    <form class="filters" role="search" onSubmit=${apply}>
      <${TextField} label=${t("console.audit.admin")} placeholder=${t("console.audit.id")} maxlength=${64} value=${form.admin} onChange=${set("admin")} autocomplete="off" spellcheck=${false} />
      <${TextField} label=${t("console.audit.user")} placeholder=${t("console.audit.id")} maxlength=${64} value=${form.user} onChange=${set("user")} autocomplete="off" spellcheck=${false} />
      <${Select} label=${t("console.audit.action")} value=${form.action} onChange=${set("action")} options=${[{ value: "", label: t("console.audit.every_action") }, ...ACTIONS.map((value) => ({ value, label: t(`console.action.${value}`) }))]} />
      <div class="row"><${Button} type="submit" icon="filter">${t("console.apply")}<//>
      ${filtered && html`<${Button} kind="plain" onClick=${() => go(["audit"])}>${t("console.show_all")}<//>`}</div>
    </form>
    <${ListTable} list=${list} label=${t("console.page.audit")} id=${(row) => row.id} empty=${{ icon: "shield", title: t(filtered ? "console.audit.none_found" : "console.audit.none") }} columns=${[
      { name: "time", label: t("console.time"), cell: (row) => html`<${Time} value=${row.create_time} />` },
      { name: "action", label: t("console.audit.action"), cell: (row) => html`<span title=${row.action}>${named("console.action", row.action)}</span>` },
      { name: "admin", label: t("console.audit.admin"), cell: (row) => html`<${Id} value=${row.admin_id} href=${address(["audit"], { ...wanted, admin: row.admin_id })} />` },
      { name: "user", label: t("console.audit.user"), cell: (row) => html`<${Id} value=${row.user_id} href=${row.user_id ? address(["users", row.user_id]) : undefined} />` },
      { name: "about", label: t("console.audit.about"), cell: (row) => html`<${Id} value=${row.about} />` },
      { name: "reason", label: t("console.audit.reason"), wide: true, cell: (row) => row.reason ?? html`<${None} />` },
    ]} />`;
}

/** Redeem codes: campaigns, batches and single codes, with their tables, new ones, and revocations. */
import { explain } from "../shared/session.js";
import { formatNumber, t } from "../shared/text.js";
import { Button, Dialog, Icon, Segments, copyText, html, openDialog, saveFile, toast, useId, useState } from "../shared/ui.js";
import { ask, newKey, read, useList, useLoad, withQuery } from "./calls.js";
import { Figure, Figures, FormDialog, Heading, Id, ListTable, Loaded, None, Search, TextField, Time, askAndDo } from "./parts.js";
import { address, go } from "./routes.js";

const KINDS = { active: "accent", revoked: "danger", expired: "warning" };

/** @param {{parts: string[], query: URLSearchParams}} props */
export default function Codes({ parts, query }) {
  if (parts[0] === "batch" && parts[1]) return html`<${Batch} id=${parts[1]} />`;
  if (parts[0] === "code" && parts[1]) return html`<${OneCode} name=${parts[1]} />`;
  return html`<${Overview} campaign=${query.get("campaign") ?? ""} />`;
}

/** @param {{state: string}} props */
function State({ state }) {
  return html`<span class=${`badge ${KINDS[state] ?? ""}`}>${t(`console.code_state.${state}`)}</span>`;
}

/** @param {{campaign: string}} props */
function Overview({ campaign }) {
  const [typed, setTyped] = useState("");
  const list = useList(withQuery("/codes", { group_batches: true, limit: 25 }));
  const campaigns = [...new Set(list.items.map((code) => code.description).filter(Boolean))];
  const rows = campaign ? list.items.filter((code) => code.description === campaign) : list.items;
  const open = () => { if (typed.trim()) go(["codes", "code", typed.trim().toUpperCase()]); };
  const make = () => openDialog((close) => html`<${NewCodes} campaigns=${campaigns} close=${close} done=${list.reload} />`);
  return html`
    <${Heading} title=${t("console.page.codes")} text=${t("console.codes.text")}><${Button} kind="primary" icon="plus" onClick=${make}>${t("console.codes.new")}<//><//>
    <${Search} label=${t("console.codes.find")} hint=${t("console.codes.find_hint")} value=${typed} onChange=${setTyped} onSearch=${open} autocapitalize="characters" maxlength=${64} />
    ${campaigns.length > 0 && html`<div class="chips" role="group" aria-label=${t("console.codes.campaigns")}>
      <a class="chip" href=${address(["codes"])} aria-current=${campaign ? undefined : "true"}>${t("console.codes.all")}</a>
      ${campaigns.map((name) => html`<a class="chip" key=${name} href=${address(["codes"], { campaign: name })} aria-current=${name === campaign ? "true" : undefined}>${name}</a>`)}
    </div>`}
    <${ListTable} list=${list} rows=${rows} label=${t("console.page.codes")} id=${(row) => row.redeem_code} href=${(row) => (row.batch ? address(["codes", "batch", row.batch]) : address(["codes", "code", row.redeem_code]))}
      empty=${{ icon: "ticket", title: t("console.codes.none"), text: t("console.codes.none_text") }} columns=${[
        { name: "what", label: t("console.codes.code"), wide: true, cell: (row) => (row.batch ? html`<span class="who"><strong>${t("console.codes.batch_of", { count: row.batch_size ?? 0 })}</strong><code class="muted small">${row.batch}</code></span>` : html`<code>${row.redeem_code}</code>`) },
        { name: "campaign", label: t("console.codes.campaign"), cell: (row) => row.description ?? html`<${None} />` },
        { name: "value", label: t("console.codes.value"), number: true, cell: (row) => formatNumber(row.value) },
        { name: "used", label: t("console.codes.used"), number: true, cell: (row) => (row.batch ? html`<${None} />` : `${formatNumber(row.used)} / ${formatNumber(row.max_uses)}`) },
        { name: "state", label: t("console.codes.state"), cell: (row) => (row.batch && !["revoked", "expired"].includes(row.state) ? html`<span class="badge">${t("console.codes.batch")}</span>` : html`<${State} state=${row.state} />`) },
        { name: "made", label: t("console.codes.made"), cell: (row) => html`<${Time} value=${row.create_time} />` },
      ]} />`;
}

/** The columns of codes, where each row is one code. */
const columns = () => [
  { name: "code", label: t("console.codes.code"), wide: true, cell: (row) => html`<code>${row.redeem_code}</code>` },
  { name: "state", label: t("console.codes.state"), cell: (row) => html`<${State} state=${row.state} />` },
  { name: "used", label: t("console.codes.used"), number: true, cell: (row) => `${formatNumber(row.used)} / ${formatNumber(row.max_uses)}` },
];

/** @param {{id: string}} props */
function Batch({ id }) {
  const batch = useLoad((signal) => readBatch(id, signal), id);
  const back = { href: address(["codes"]), label: t("console.page.codes") };
  const codes = batch.data ?? [];
  const [busy, setBusy] = useState(false);
  const download = async () => {
    setBusy(true);
    try {
      const { data } = await ask("GET", withQuery("/codes", { batch: id, format: "csv" }));
      saveTable(`codes-${id}.csv`, data);
    } catch (error) {
      toast(explain(error));
    } finally {
      setBusy(false);
    }
  };
  const open = codes.filter((code) => code.state === "active").length;
  const revoke = () => askAndDo({
    title: t("console.codes.revoke_batch"),
    text: t("console.codes.revoke_batch_text", { count: open }),
    action: t("console.codes.revoke"),
    done: t("console.codes.revoked"),
    run: async () => { await ask("DELETE", withQuery("/codes", { batch: id })); batch.reload(); },
  });
  return html`
    <${Heading} title=${codes[0]?.description ?? t("console.codes.batch")} back=${back} text=${html`<${Id} value=${id} whole />`}>
      ${codes.length > 0 && html`<${Button} icon="download" busy=${busy} onClick=${download}>CSV<//>
        <${Button} icon="copy" onClick=${() => copyText(codes.map((code) => code.redeem_code).join("\n"))}>${t("console.codes.copy_all")}<//>
        <${Button} kind="danger" icon="trash" disabled=${!open} onClick=${revoke}>${t("console.codes.revoke_batch")}<//>`}
    <//>
    <${Loaded} of=${batch}>${(all) => (all.length ? html`
      <${Figures}>
        <${Figure} label=${t("console.codes.codes")} value=${formatNumber(all.length)} text=${t("console.codes.worth", { credits: all[0].value })} />
        <${Figure} label=${t("console.codes.uses")} value=${formatNumber(sum(all, "used"))} text=${t("console.codes.of_uses", { uses: sum(all, "max_uses") })} />
        <${Figure} label=${t("console.codes.given")} value=${formatNumber(sum(all, "used") * all[0].value)} text=${t("console.codes.given_text")} />
        <${Figure} label=${t("console.code_state.active")} value=${formatNumber(open)} text=${all[0].expires_at ? html`${t("console.codes.until")} <${Time} value=${all[0].expires_at} />` : t("console.codes.no_end")} />
      <//>
      <${Rows} rows=${all} />` : html`<p class="muted">${t("console.codes.no_batch")}</p>`)}<//>`;
}

/** @param {any[]} codes @param {string} name */
const sum = (codes, name) => codes.reduce((all, code) => all + code[name], 0);

/** @param {string} id @param {AbortSignal} signal */
async function readBatch(id, signal) {
  const codes = [];
  let cursor = /** @type {string|null} */ (null);
  do {
    const { data, headers } = await ask("GET", withQuery("/codes", { batch: id, limit: 100, cursor }), { signal });
    codes.push(...data);
    cursor = headers.get("X-Next-Cursor");
  } while (cursor);
  return codes;
}

/** A batch has at most 500 codes, of which a table shows fifty at first. @param {{rows: any[]}} props */
function Rows({ rows }) {
  const [shown, setShown] = useState(50);
  const list = { items: rows, loading: false, error: null, hasMore: shown < rows.length, more: () => setShown(shown + 100), reload: () => {} };
  return html`<${ListTable} list=${list} rows=${rows.slice(0, shown)} label=${t("console.codes.codes")} id=${(row) => row.redeem_code} href=${(row) => address(["codes", "code", row.redeem_code])} empty=${{ title: "" }} columns=${columns()} />`;
}

/** @param {{name: string}} props */
function OneCode({ name }) {
  const loaded = useLoad((signal) => read(`/codes/${encodeURIComponent(name)}`, signal), name);
  const code = loaded.data;
  const back = code?.batch ? { href: address(["codes", "batch", code.batch]), label: t("console.codes.batch") } : { href: address(["codes"]), label: t("console.page.codes") };
  const revoke = () => askAndDo({
    title: t("console.codes.revoke_one", { code: name }),
    text: t("console.codes.revoke_text"),
    action: t("console.codes.revoke"),
    done: t("console.codes.revoked"),
    run: async () => { await ask("DELETE", `/codes/${encodeURIComponent(name)}`); loaded.reload(); },
  });
  return html`
    <${Heading} title=${code?.redeem_code ?? name} back=${back} text=${code?.description ?? undefined}>
      ${code && html`<${Button} icon="copy" onClick=${() => copyText(code.redeem_code)}>${t("console.copy")}<//>
        <${Button} kind="danger" icon="trash" disabled=${code.state === "revoked"} onClick=${revoke}>${t("console.codes.revoke")}<//>`}
    <//>
    <${Loaded} of=${loaded}>${(data) => html`<${Figures}>
      <${Figure} label=${t("console.codes.value")} value=${formatNumber(data.value)} text=${t("console.codes.each_use")} />
      <${Figure} label=${t("console.codes.uses")} value=${formatNumber(data.used)} text=${t("console.codes.of_uses", { uses: data.max_uses })} />
      <${Figure} label=${t("console.codes.state")} value=${html`<${State} state=${data.state} />`} text=${data.expires_at ? html`${t("console.codes.until")} <${Time} value=${data.expires_at} />` : t("console.codes.no_end")} />
      <${Figure} label=${t("console.codes.made")} value=${html`<span class="date"><${Time} value=${data.create_time} /></span>`} />
    <//>`}<//>`;
}

/** @param {{campaigns: string[], close: () => void, done: () => void}} props */
function NewCodes({ campaigns, close, done }) {
  const [kind, setKind] = useState("batch");
  const [form, setForm] = useState({ count: "100", value: "", uses: "1", until: "", campaign: "", name: "" });
  const [key] = useState(newKey);
  const list = useId();
  const set = (name) => (value) => setForm((before) => ({ ...before, [name]: value }));
  const body = {
    value: Number(form.value),
    max_uses: Number(form.uses),
    ...(form.until ? { expires_at: form.until } : {}),
    ...(form.campaign.trim() ? { description: form.campaign.trim() } : {}),
    ...(kind === "batch" ? { count: Number(form.count) } : form.name.trim() ? { redeem_code: form.name.trim() } : {}),
  };
  const whole = (value, most) => Number.isSafeInteger(value) && value >= 1 && value <= most;
  const ready = whole(body.value, 1e12) && whole(body.max_uses, 1e9) && (kind !== "batch" || whole(Number(form.count), 500));
  const most = ready ? body.value * body.max_uses * (kind === "batch" ? Number(form.count) : 1) : 0;
  const submit = async () => {
    // The key belongs to the body: the same form sent again makes no second batch, and an edited one is a new request.
    const { data } = await ask("POST", "/codes", { body, headers: { "Idempotency-Key": `${key}-${await digest(JSON.stringify(body))}` } });
    done();
    openDialog((shut) => html`<${Made} made=${data.codes ?? [data]} batch=${data.batch} campaign=${body.description} close=${shut} />`);
  };
  return html`<${FormDialog} title=${t("console.codes.new")} action=${t(kind === "batch" ? "console.codes.make_batch" : "console.codes.make_one")} ready=${ready} close=${close} onSubmit=${submit}>
    <${Segments} label=${t("console.codes.kind")} value=${kind} onChange=${setKind} options=${[{ value: "batch", label: t("console.codes.batch") }, { value: "one", label: t("console.codes.one") }]} />
    <div class="pair">
      ${kind === "batch" ? html`<${TextField} key="count" label=${t("console.codes.count")} hint=${t("console.codes.count_hint")} type="number" inputmode="numeric" min="1" max="500" required value=${form.count} onChange=${set("count")} />`
        : html`<${TextField} key="name" label=${t("console.codes.name")} hint=${t("console.codes.name_hint")} maxlength=${64} pattern="[A-Za-z0-9\\-]+" autocapitalize="characters" autocomplete="off" value=${form.name} onChange=${set("name")} />`}
      <${TextField} label=${t("console.codes.value")} hint=${t("console.codes.value_hint")} type="number" inputmode="numeric" min="1" max="1000000000000" required value=${form.value} onChange=${set("value")} />
      <${TextField} label=${t("console.codes.max_uses")} hint=${t("console.codes.max_uses_hint")} type="number" inputmode="numeric" min="1" max="1000000000" required value=${form.uses} onChange=${set("uses")} />
      <${TextField} label=${t("console.codes.expires")} hint=${t("console.codes.expires_hint")} type="date" min=${new Date().toISOString().slice(0, 10)} value=${form.until} onChange=${set("until")} />
    </div>
    <${TextField} label=${t("console.codes.campaign")} hint=${t("console.codes.campaign_hint")} maxlength=${255} list=${list} value=${form.campaign} onChange=${set("campaign")} />
    <datalist id=${list}>${campaigns.map((name) => html`<option key=${name} value=${name} />`)}</datalist>
    <p class="sum row between"><span class="muted">${t("console.codes.most")}</span><strong class="number">${most ? formatNumber(most) : "–"}</strong></p>
  <//>`;
}

/** @param {string} text */
async function digest(text) {
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return [...bytes.slice(0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The codes that were made, to hand on. @param {{made: any[], batch?: string, campaign?: string, close: () => void}} props */
function Made({ made, batch, campaign, close }) {
  const download = async () => {
    try {
      const { data } = await ask("GET", withQuery("/codes", { batch, format: "csv" }));
      saveTable(`codes-${batch}.csv`, data);
    } catch (error) {
      toast(explain(error));
    }
  };
  return html`<${Dialog} title=${t("console.codes.done_title", { count: made.length })} onClose=${close} footer=${html`
      ${batch && html`<${Button} icon="download" onClick=${download}>CSV<//>`}
      <${Button} icon="copy" onClick=${() => copyText(made.map((code) => code.redeem_code).join("\n"))}>${t("console.codes.copy_all")}<//>
      <${Button} kind="primary" onClick=${close}>${t("ui.close")}<//>`}>
    <div class="stack">
      <p class="row"><${Icon} name="check" />${t("console.codes.done_text", { value: made[0].value })}${campaign ? ` · ${campaign}` : ""}</p>
      <ol class="codes" tabindex="0" aria-label=${t("console.codes.codes")}>${made.slice(0, 20).map((code) => html`<li key=${code.redeem_code}><code>${code.redeem_code}</code></li>`)}</ol>
      ${made.length > 20 && html`<p class="muted small">${t("console.codes.and_more", { count: made.length - 20 })}</p>`}
    </div>
  <//>`;
}

/** Save a table so that spreadsheets read its text as UTF-8. @param {string} name @param {string} text */
function saveTable(name, text) {
  saveFile(name, `\ufeff${text}`, "text/csv;charset=utf-8");
}

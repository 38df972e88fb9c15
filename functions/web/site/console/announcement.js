/** What everybody sees: the announcement, and the preset that a new chat begins with. */
import { ApiError, explain } from "../shared/session.js";
import { t } from "../shared/text.js";
import { Button, Notice, Segments, html, toast, useState } from "../shared/ui.js";
import { ask, useList, useLoad } from "./calls.js";
import { Heading, Loaded, Panel, Select, TextArea, TextField, Time, askAndDo } from "./parts.js";

const LEVELS = ["info", "warning", "critical"];
const LOOKS = { info: "info", warning: "warning", critical: "danger" };

export default function Announcement() {
  const stored = useLoad(async (signal) => {
    const { data, headers } = await ask("GET", "/admin/config", { signal });
    return { ...data, etag: headers.get("ETag") };
  });
  return html`
    <${Heading} title=${t("console.page.announcement")} text=${t("console.announcement.text")} />
    <${Loaded} of=${stored}>${(config) => html`<div class="halves" key=${config.etag}><${Text} config=${config} reload=${stored.reload} /><${DefaultPreset} config=${config} reload=${stored.reload} /></div>`}<//>`;
}

/** Change the configuration as it was read. @param {any} config @param {any} change @param {() => void} reload */
async function save(config, change, reload) {
  await ask("PUT", "/admin/config", { body: change, headers: { "If-Match": config.etag } });
  toast(t("console.announcement.saved"));
  reload();
}

/** @param {{config: any, reload: () => void}} props */
function Text({ config, reload }) {
  const now = config.announcement;
  const [text, setText] = useState(now?.text ?? "");
  const [level, setLevel] = useState(now?.level ?? "info");
  const [until, setUntil] = useState(now?.until ? now.until.slice(0, 10) : "");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const over = now?.until && Date.parse(now.until) < Date.now();
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      await save(config, { announcement: { text: text.trim(), level, ...(until ? { until } : {}) } }, reload);
    } catch (error) {
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };
  const remove = () => askAndDo({
    title: t("console.announcement.remove_title"), text: t("console.announcement.remove_text"), action: t("console.announcement.remove"),
    run: () => save(config, { announcement: null }, reload),
  });
  return html`<${Panel} title=${t("console.announcement.title")} text=${now ? (over ? t("console.announcement.over") : t("console.announcement.shown")) : t("console.announcement.none")}>
    <form class="stack" onSubmit=${submit}>
      <${TextArea} label=${t("console.announcement.message")} hint=${t("console.announcement.message_hint")} required maxlength=${2000} rows="4" value=${text} onChange=${setText} />
      <div class="field"><span class="label">${t("console.announcement.level")}</span><div><${Segments} label=${t("console.announcement.level")} value=${level} onChange=${setLevel} options=${LEVELS.map((value) => ({ value, label: t(`console.level.${value}`) }))} /></div></div>
      <${TextField} label=${t("console.announcement.until")} hint=${t("console.announcement.until_hint")} type="date" min=${new Date().toISOString().slice(0, 10)} value=${until} onChange=${setUntil} />
      ${text.trim() && html`<div class="field"><span class="label">${t("console.announcement.preview")}</span><${Notice} kind=${LOOKS[level]}><p class="pre">${text.trim()}</p><//></div>`}
      ${problem && html`<${Problem} error=${problem} reload=${reload} />`}
      <div class="row wrap"><${Button} type="submit" kind="primary" busy=${busy} disabled=${!text.trim()}>${t("console.announcement.publish")}<//>
        ${now && html`<${Button} kind="danger" onClick=${remove}>${t("console.announcement.remove")}<//>`}</div>
    </form>
  <//>`;
}

/** @param {{config: any, reload: () => void}} props */
function DefaultPreset({ config, reload }) {
  const presets = useList("/presets?limit=100&order_by=title&order=asc");
  const [chosen, setChosen] = useState(config.default_preset ?? "");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const open = presets.items.filter((preset) => preset.visibility === "public");
  const known = !config.default_preset || open.some((preset) => preset.id === config.default_preset);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      await save(config, { default_preset: chosen || null }, reload);
    } catch (error) {
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };
  return html`<${Panel} title=${t("console.announcement.default")} text=${t("console.announcement.default_text")}>
    <form class="stack" onSubmit=${submit}>
      ${!known && !presets.loading && html`<${Notice} kind="warning">${t("console.announcement.default_gone")}<//>`}
      <${Select} label=${t("console.preset")} value=${chosen} onChange=${setChosen} options=${[{ value: "", label: t("console.announcement.no_default") },
        ...(known || !config.default_preset ? [] : [{ value: config.default_preset, label: config.default_preset }]), ...open.map((preset) => ({ value: preset.id, label: `${preset.title} · ${preset.parameters.model}` }))]} />
      ${problem && html`<${Problem} error=${problem} reload=${reload} />`}
      <div><${Button} type="submit" busy=${busy} disabled=${chosen === (config.default_preset ?? "")}>${t("ui.save")}<//></div>
      ${config.update_time && html`<p class="muted small">${t("console.announcement.changed")} <${Time} value=${config.update_time} /></p>`}
    </form>
  <//>`;
}

/** @param {{error: any, reload: () => void}} props */
function Problem({ error, reload }) {
  const changed = error instanceof ApiError && error.code === "precondition_failed";
  return html`<${Notice} kind="danger"><div class="row wrap between"><span>${changed ? t("console.announcement.conflict") : explain(error)}</span>${changed && html`<${Button} small onClick=${reload}>${t("console.refresh")}<//>`}</div><//>`;
}

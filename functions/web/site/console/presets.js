/** Presets that everybody sees: the list, and the form to make and change them. */
import { config, user as me } from "../shared/session.js";
import { formatNumber, t } from "../shared/text.js";
import { Button, Check, Field, Icon, IconButton, Notice, Segments, html, openDialog, toast, useState } from "../shared/ui.js";
import { ask, read, useList, useLoad } from "./calls.js";
import { FormDialog, Heading, Id, ListTable, Loaded, Panel, Select, TextArea, TextField, Time, askAndDo } from "./parts.js";
import { address, go } from "./routes.js";

const VISIBILITIES = ["public", "unlisted", "private"];
const ROLES = ["system", "user", "assistant"];
/** @type {Record<string, string>} */
const KINDS = { public: "accent", unlisted: "", private: "warning" };

/** @param {{parts: string[], query: URLSearchParams}} props */
export default function Presets({ parts, query }) {
  return parts[0] ? html`<${OnePreset} id=${parts[0]} />` : html`<${PresetList} which=${query.get("visibility") ?? "public"} />`;
}

/** @param {{value: string}} props */
function Visibility({ value }) {
  return html`<span class=${`badge ${KINDS[value] ?? ""}`}>${t(`console.visibility.${value}`)}</span>`;
}

/** @param {{preset: any}} props */
function ModelOf({ preset }) {
  const model = config.value?.models.find((one) => one.model === preset.parameters.model);
  const gone = model?.status === "retired";
  return html`<code>${preset.parameters.model}</code>${(gone || model?.retires_on) && html` <span class=${`badge ${gone ? "danger" : "warning"}`}>${t(gone ? "console.models.retired" : "console.models.retires_soon")}</span>`}`;
}

/** @param {{which: string}} props */
function PresetList({ which }) {
  const list = useList("/presets?limit=100&order_by=update_time");
  const rows = list.items.filter((preset) => which === "all" || preset.visibility === which);
  const make = () => openDialog((close) => html`<${Editor} close=${close} done=${(preset) => go(["presets", preset.id])} />`);
  return html`
    <${Heading} title=${t("console.page.presets")} text=${t("console.presets.text")}><${Button} kind="primary" icon="plus" onClick=${make}>${t("console.presets.new")}<//><//>
    <div class="row wrap between toolbar"><${Segments} label=${t("console.presets.visibility")} value=${which} onChange=${(visibility) => go(["presets"], { visibility })}
      options=${["public", "unlisted", "private", "all"].map((value) => ({ value, label: t(`console.presets.tab_${value}`) }))} /></div>
    <${ListTable} list=${list} rows=${rows} label=${t("console.page.presets")} id=${(row) => row.id} href=${(row) => address(["presets", row.id])}
      empty=${{ icon: "grid", title: t("console.presets.none"), text: t("console.presets.none_text") }} columns=${[
        { name: "title", label: t("console.preset"), wide: true, cell: (row) => html`<span class="who"><strong>${row.title}</strong>${row.description && html`<span class="muted small">${row.description}</span>`}</span>` },
        { name: "model", label: t("console.model"), cell: (row) => html`<${ModelOf} preset=${row} />` },
        { name: "visibility", label: t("console.presets.visibility"), cell: (row) => html`<${Visibility} value=${row.visibility} />` },
        { name: "likes", label: t("console.presets.likes"), number: true, cell: (row) => formatNumber(row.like_count) },
        { name: "changed", label: t("console.presets.changed"), cell: (row) => html`<${Time} value=${row.update_time} />` },
      ]} />`;
}

/** @param {{id: string}} props */
function OnePreset({ id }) {
  const loaded = useLoad((signal) => read(`/presets/${encodeURIComponent(id)}`, signal), id);
  const preset = loaded.data;
  const edit = () => openDialog((close) => html`<${Editor} preset=${preset} close=${close} done=${loaded.reload} />`);
  const remove = () => askAndDo({
    title: t("console.presets.delete_title", { title: preset.title }), text: t("console.presets.delete_text"), action: t("console.delete"), done: t("console.presets.deleted"),
    run: async () => { await ask("DELETE", `/presets/${encodeURIComponent(id)}`); go(["presets"]); },
  });
  const others = preset ? Object.entries(preset.parameters).filter(([name, value]) => name !== "model" && value !== null) : [];
  return html`
    <${Heading} title=${preset?.title ?? t("console.preset")} back=${{ href: address(["presets"]), label: t("console.page.presets") }} text=${preset?.description ?? undefined}>
      ${preset && html`<${Button} kind="primary" icon="edit" onClick=${edit}>${t("console.presets.edit")}<//><${Button} kind="danger" icon="trash" onClick=${remove}>${t("console.delete")}<//>`}
    <//>
    <${Loaded} of=${loaded}>${(data) => html`
      <dl class="facts panel">
        <div><dt>${t("console.presets.visibility")}</dt><dd><${Visibility} value=${data.visibility} /></dd></div>
        <div><dt>${t("console.model")}</dt><dd><${ModelOf} preset=${data} /></dd></div>
        <div><dt>${t("console.presets.version")}</dt><dd class="number">${data.version}</dd></div>
        <div><dt>${t("console.presets.likes")}</dt><dd class="number">${formatNumber(data.like_count)}</dd></div>
        <div><dt>${t("console.presets.owner")}</dt><dd>${data.owner_id === me.value?.id ? t("console.presets.you") : html`<${Id} value=${data.owner_id} href=${address(["users", data.owner_id])} />`}</dd></div>
        <div><dt>${t("console.presets.changed")}</dt><dd><${Time} value=${data.update_time} /></dd></div>
        <div><dt>ID</dt><dd><${Id} value=${data.id} /></dd></div>
        <div><dt>${t("console.feedback.rating")}</dt><dd><a href=${address(["feedback"], { preset_id: data.id })}>${t("console.page.feedback")}</a></dd></div>
      </dl>
      <${Panel} title=${t("console.presets.messages")} text=${t("console.presets.messages_text")}>${data.messages.length ? html`<ol class="messages">${data.messages.map((message, index) => html`<li key=${index}>
        <div class="row"><span class="badge">${t(`console.role.${message.role}`)}</span>${!message.visibility && html`<span class="badge"><${Icon} name="eye" />${t("console.presets.hidden")}</span>`}</div>
        <p class="pre">${message.content}</p></li>`)}</ol>` : html`<p class="muted">${t("console.presets.no_messages")}</p>`}<//>
      ${others.length > 0 && html`<${Panel} title=${t("console.presets.parameters")}><dl class="facts">${others.map(([name, value]) => html`<div key=${name}><dt><code>${name}</code></dt><dd><code>${typeof value === "object" ? JSON.stringify(value) : String(value)}</code></dd></div>`)}</dl><//>`}`}<//>`;
}

/** @param {{preset?: any, close: () => void, done: (preset: any) => void}} props */
function Editor({ preset, close, done }) {
  const old = preset?.parameters ?? {};
  const models = (config.value?.models ?? []).filter((one) => one.status === "available" || one.model === old.model);
  const [form, setForm] = useState({
    title: preset?.title ?? "", description: preset?.description ?? "", visibility: preset?.visibility ?? "public", model: old.model ?? models[0]?.model ?? "",
    thinking: old.enable_thinking === true, search: old.enable_search === true, temperature: old.temperature == null ? "" : String(old.temperature), most: old.max_tokens == null ? "" : String(old.max_tokens),
  });
  const [messages, setMessages] = useState(preset?.messages ?? [{ role: "system", content: "", visibility: false, type: "text" }]);
  const set = (name) => (value) => setForm((before) => ({ ...before, [name]: value }));
  const model = config.value?.models.find((one) => one.model === form.model);
  const submit = async () => {
    const body = { title: form.title.trim(), description: form.description.trim() || null, visibility: form.visibility, parameters: parameters(old, form, model), messages: messages.filter((message) => message.content.trim()) };
    const { data } = await ask(preset ? "PUT" : "POST", preset ? `/presets/${encodeURIComponent(preset.id)}` : "/presets", { body });
    toast(t("console.presets.saved", { title: data.title }));
    done(data);
  };
  const change = (at, changes) => setMessages(messages.map((message, index) => (index === at ? { ...message, ...changes } : message)));
  return html`<${FormDialog} wide title=${t(preset ? "console.presets.edit_title" : "console.presets.new")} action=${t("ui.save")} ready=${form.title.trim() !== "" && form.model !== ""} close=${close} onSubmit=${submit}>
    ${preset && preset.owner_id !== me.value?.id && html`<${Notice}>${t("console.presets.not_yours")}<//>`}
    <div class="pair">
      <${TextField} label=${t("console.presets.title")} required maxlength=${50} value=${form.title} onChange=${set("title")} />
      <div class="field"><span class="label">${t("console.presets.visibility")}</span><div><${Segments} label=${t("console.presets.visibility")} value=${form.visibility} onChange=${set("visibility")} options=${VISIBILITIES.map((value) => ({ value, label: t(`console.visibility.${value}`) }))} /></div></div>
    </div>
    <${TextField} label=${t("console.description")} maxlength=${255} value=${form.description} onChange=${set("description")} />
    <div class="pair three">
      <${Select} label=${t("console.model")} value=${form.model} onChange=${set("model")} options=${models.map((one) => ({ value: one.model, label: one.retires_on ? `${one.model} (${t("console.models.retires_soon")})` : one.model }))} />
      <${TextField} label=${t("console.presets.temperature")} type="number" min="0" max="1.99" step="0.01" inputmode="decimal" placeholder=${t("console.presets.models_own")} value=${form.temperature} onChange=${set("temperature")} />
      <${TextField} label=${t("console.presets.most")} type="number" min="1" max=${model?.max_output} step="1" inputmode="numeric" placeholder="2048" value=${form.most} onChange=${set("most")} />
    </div>
    ${(model?.thinking === "optional" || model?.search) && html`<div class="row wrap checks">
      ${model.thinking === "optional" && html`<${Check} label=${t("console.presets.thinking")} checked=${form.thinking} onChange=${set("thinking")} />`}
      ${model.search && html`<${Check} label=${t("console.presets.search")} checked=${form.search} onChange=${set("search")} />`}</div>`}
    <fieldset class="stack"><legend>${t("console.presets.messages")}</legend>
      ${messages.map((message, index) => html`<div class="message-edit" key=${index}>
        <div class="row wrap">
          <${Field} label=${t("console.presets.role")}>${(attributes) => html`<select ...${attributes} value=${message.role} onChange=${(event) => change(index, { role: event.currentTarget.value })}>${ROLES.map((role) => html`<option key=${role} value=${role} selected=${role === message.role}>${t(`console.role.${role}`)}</option>`)}</select>`}<//>
          <span class="grow"></span>
          <${Check} label=${t("console.presets.shown")} checked=${message.visibility} onChange=${(visibility) => change(index, { visibility })} />
          <${IconButton} icon="trash" label=${t("console.presets.remove_message", { n: index + 1 })} onClick=${() => setMessages(messages.filter((_, other) => other !== index))} />
        </div>
        <${TextArea} label=${t("console.presets.content")} rows="3" value=${message.content} onChange=${(content) => change(index, { content })} />
      </div>`)}
      <div><${Button} small icon="plus" onClick=${() => setMessages([...messages, { role: messages.length % 2 ? "user" : "assistant", content: "", visibility: true, type: "text" }])}>${t("console.presets.add_message")}<//></div>
    </fieldset>
  <//>`;
}

/** Return the parameters as the form has them. What the form does not show stays, unless the model cannot take it. */
function parameters(old, form, model) {
  const made = { ...old, model: form.model };
  made.temperature = form.temperature === "" ? null : Number(form.temperature);
  made.max_tokens = form.most === "" ? null : Number(form.most);
  if (model?.thinking === "optional") made.enable_thinking = form.thinking ? true : null;
  if (model?.thinking === "never" || (model?.thinking === "optional" && !form.thinking)) for (const name of ["enable_thinking", "thinking_budget", "reasoning_effort"]) made[name] = null;
  made.enable_search = model?.search && form.search ? true : null;
  if (!made.enable_search) made.search_options = null;
  return Object.fromEntries(Object.entries(made).filter(([, value]) => value !== null && value !== undefined));
}

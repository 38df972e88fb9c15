/** The gallery of presets: choose one, like it, make one's own. */
import { Button, Check, Dialog, Empty, Field, Icon, Menu, Notice, Segments, Spinner, confirm, html, openDialog, toast, useEffect, useSignal } from "../shared/ui.js";
import { call, config, explain, showError, user } from "../shared/session.js";
import { formatNumber, t } from "../shared/text.js";
import { changeChat, chat, chosenPreset, currentPreset, findModel, go, loadPresets, openId, presets } from "./state.js";

export function openPresets() {
  openDialog((close) => html`<${Gallery} onClose=${close} />`);
}

/** @param {{onClose: () => void}} props */
function Gallery({ onClose }) {
  const tab = useSignal("all");
  const query = useSignal("");
  const likes = useSignal(/** @type {Set<string>} */ (new Set()));
  useEffect(() => {
    loadPresets().catch(showError);
    call("GET", "/users/me/likes").then((found) => { likes.value = new Set(found.preset_ids); }, () => {});
  }, []);
  const me = user.value?.id;
  const wanted = query.value.trim().toLowerCase();
  const shown = (presets.value ?? [])
    .filter((one) => (tab.value === "own" ? one.owner_id === me : tab.value === "liked" ? likes.value.has(one.id) : true))
    .filter((one) => !wanted || `${one.title} ${one.description ?? ""} ${one.parameters.model}`.toLowerCase().includes(wanted));
  const use = (preset) => {
    go({ name: "new" });
    chosenPreset.value = preset.id;
    onClose();
  };
  const useHere = async (preset) => {
    try {
      await changeChat(openId(), { preset_id: preset.id });
      onClose();
    } catch (error) {
      showError(error);
    }
  };
  const like = async (preset) => {
    const has = likes.value.has(preset.id);
    try {
      await call(has ? "DELETE" : "POST", `/users/me/likes/preset/${preset.id}`);
      const next = new Set(likes.value);
      if (has) next.delete(preset.id);
      else next.add(preset.id);
      likes.value = next;
      presets.value = (presets.value ?? []).map((one) => (one.id === preset.id ? { ...one, like_count: one.like_count + (has ? -1 : 1) } : one));
    } catch (error) {
      showError(error);
    }
  };
  const edit = async (preset) => {
    try {
      const whole = await call("GET", `/presets/${preset.id}`);
      openDialog((close) => html`<${Editor} preset=${whole} onClose=${close} />`);
    } catch (error) {
      showError(error);
    }
  };
  const remove = async (preset) => {
    if (!(await confirm({ title: t("presets.delete_title"), text: t("presets.delete_text", { title: preset.title }), action: t("presets.delete") }))) return;
    try {
      await call("DELETE", `/presets/${preset.id}`);
      if (chosenPreset.value === preset.id) chosenPreset.value = null;
      await loadPresets();
    } catch (error) {
      showError(error);
    }
  };
  return html`<${Dialog} title=${t("presets.title")} wide onClose=${onClose}>
    <div class="stack">
      <div class="row wrap between">
        <${Segments} label=${t("presets.which")} value=${tab.value} onChange=${(value) => { tab.value = value; }} options=${[{ value: "all", label: t("presets.tab_all") }, { value: "own", label: t("presets.tab_own") }, { value: "liked", label: t("presets.tab_liked") }]} />
        <input class="input grow preset-filter" type="search" aria-label=${t("presets.filter")} placeholder=${t("presets.filter")} value=${query.value} onInput=${(event) => { query.value = event.currentTarget.value; }} />
        <${Button} kind="primary" icon="plus" onClick=${() => openDialog((close) => html`<${Editor} onClose=${close} />`)}>${t("presets.make")}<//>
      </div>
      ${!presets.value ? html`<${Spinner} />` : shown.length ? html`<ul class="preset-grid">${shown.map((preset) => {
        const model = findModel(preset.parameters.model);
        const has = likes.value.has(preset.id);
        return html`<li key=${preset.id} class="card preset-card">
          <h3><span class="clip grow">${preset.title}</span>${preset.owner_id === me && html`<${Menu} small label=${t("presets.actions", { title: preset.title })} items=${[{ label: t("presets.edit"), icon: "edit", onSelect: () => edit(preset) }, { label: t("presets.delete"), icon: "trash", danger: true, onSelect: () => remove(preset) }]} />`}</h3>
          <p class="muted small description">${preset.description ?? t("presets.no_description")}</p>
          <p class="row wrap"><span class="badge">${preset.parameters.model}</span>
            ${model?.vision && html`<span class="badge"><${Icon} name="image" />${t("presets.vision")}</span>`}
            ${preset.parameters.enable_thinking && html`<span class="badge"><${Icon} name="thought" />${t("presets.thinking")}</span>`}
            ${preset.parameters.enable_search && html`<span class="badge"><${Icon} name="globe" />${t("presets.search")}</span>`}
            ${preset.visibility !== "public" && html`<span class="badge">${t(`presets.${preset.visibility}`)}</span>`}</p>
          <div class="row"><${Button} small kind="primary" onClick=${() => use(preset)}>${t("presets.use")}<//>
            ${chat.value && chat.value.preset_id !== preset.id && html`<${Button} small onClick=${() => useHere(preset)}>${t("presets.use_here")}<//>`}
            <span class="grow"></span>
            <${Button} small kind="plain" icon="up" aria-pressed=${String(has)} aria-label=${t("presets.like", { n: preset.like_count })} onClick=${() => like(preset)}>${formatNumber(preset.like_count)}<//></div>
        </li>`;
      })}</ul>` : html`<${Empty} icon="grid" title=${t(wanted ? "presets.none_found" : "presets.none")}><p>${t("presets.none_text")}</p><//>`}
    </div>
  <//>`;
}

/** @param {{preset?: any, onClose: () => void}} props */
function Editor({ preset, onClose }) {
  const models = (config.value?.models ?? []).filter((one) => one.status === "available" || one.model === preset?.parameters.model);
  const form = useSignal({
    title: preset?.title ?? "",
    description: preset?.description ?? "",
    model: preset?.parameters.model ?? currentPreset()?.parameters?.model ?? models[0]?.model,
    system: preset?.messages.find((one) => one.role === "system")?.content ?? "",
    thinking: Boolean(preset?.parameters.enable_thinking),
    search: Boolean(preset?.parameters.enable_search),
    temperature: preset?.parameters.temperature ?? "",
    most: preset?.parameters.max_tokens ?? "",
  });
  const busy = useSignal(false);
  const problem = useSignal("");
  const set = (changes) => { form.value = { ...form.value, ...changes }; };
  const input = (name) => (event) => set({ [name]: event.currentTarget.value });
  const model = findModel(form.value.model);
  const save = async (event) => {
    event.preventDefault();
    busy.value = true;
    problem.value = "";
    const now = form.value;
    const number = (text) => (text === "" ? undefined : Number(text));
    const parameters = {
      ...preset?.parameters, model: now.model, temperature: number(now.temperature), max_tokens: number(now.most),
      enable_thinking: model?.thinking === "always" || (model?.thinking === "optional" && now.thinking) ? true : undefined,
      enable_search: model?.search && now.search ? true : undefined,
    };
    if (!parameters.enable_search) delete parameters.search_options;
    if (!parameters.enable_thinking) for (const name of ["thinking_budget", "reasoning_effort"]) delete parameters[name];
    for (const [name, value] of Object.entries(parameters)) if (value === null || value === undefined) delete parameters[name];
    const others = (preset?.messages ?? []).filter((one) => one.role !== "system");
    const body = {
      title: now.title.trim(), description: now.description.trim() || null, parameters,
      messages: [...(now.system.trim() ? [{ role: "system", content: now.system.trim(), visibility: false }] : []), ...others],
    };
    try {
      const stored = await call(preset ? "PUT" : "POST", preset ? `/presets/${preset.id}` : "/presets", { body });
      await loadPresets();
      if (!preset) chosenPreset.value = stored.id;
      toast(t("presets.saved"), { seconds: 3 });
      onClose();
    } catch (error) {
      problem.value = explain(error);
      busy.value = false;
    }
  };
  return html`<${Dialog} title=${t(preset ? "presets.edit" : "presets.make")} onClose=${onClose}>
    <form class="stack" onSubmit=${save}>
      ${problem.value && html`<${Notice} kind="danger">${problem.value}<//>`}
      <${Field} label=${t("presets.name")}>${(attributes) => html`<input ...${attributes} required maxlength="50" autofocus value=${form.value.title} onInput=${input("title")} />`}<//>
      <${Field} label=${t("presets.description")}>${(attributes) => html`<input ...${attributes} maxlength="255" value=${form.value.description} onInput=${input("description")} />`}<//>
      <${Field} label=${t("presets.model")} hint=${model && t("presets.price", { input: model.tiers[0].input, output: model.tiers[0].output, per: config.value.per })}>${(attributes) => html`<select ...${attributes} value=${form.value.model} onChange=${input("model")}>${models.map((one) => html`<option key=${one.model} value=${one.model}>${one.model}</option>`)}</select>`}<//>
      <${Field} label=${t("presets.system")} hint=${t("presets.system_hint")}>${(attributes) => html`<textarea ...${attributes} value=${form.value.system} onInput=${input("system")}></textarea>`}<//>
      ${model?.thinking === "optional" && html`<${Check} label=${t("presets.with_thinking")} checked=${form.value.thinking} onChange=${(thinking) => set({ thinking })} />`}
      ${model?.search && html`<${Check} label=${t("presets.with_search")} checked=${form.value.search} onChange=${(search) => set({ search })} />`}
      <div class="row two">
        <div class="grow"><${Field} label=${t("presets.temperature")}>${(attributes) => html`<input ...${attributes} type="number" min="0" max="1.99" step="0.01" inputmode="decimal" placeholder=${t("presets.default")} value=${form.value.temperature} onInput=${input("temperature")} />`}<//></div>
        <div class="grow"><${Field} label=${t("presets.max_tokens")}>${(attributes) => html`<input ...${attributes} type="number" min="1" max=${model?.max_output} step="1" inputmode="numeric" placeholder="2048" value=${form.value.most} onInput=${input("most")} />`}<//></div>
      </div>
      <div class="row end"><${Button} onClick=${onClose}>${t("ui.cancel")}<//><${Button} type="submit" kind="primary" busy=${busy.value}>${t("ui.save")}<//></div>
    </form>
  <//>`;
}

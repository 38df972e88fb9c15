/** Feedback: the answers that users have rated, with tags and comments. */
import { t } from "../shared/text.js";
import { Button, Empty, Icon, Segments, Spinner, html } from "../shared/ui.js";
import { useForm, useList, withQuery } from "./calls.js";
import { Failure, Heading, Id, More, TextField, Time, named } from "./parts.js";
import { address, go } from "./routes.js";

/** @param {{query: URLSearchParams}} props */
export default function Feedback({ query }) {
  const wanted = { rating: query.get("rating") ?? "", model: query.get("model") ?? "", preset_id: query.get("preset_id") ?? "" };
  const [form, setForm] = useForm(wanted);
  const list = useList(withQuery("/admin/feedback", { limit: 20, ...wanted }));
  const filtered = wanted.rating || wanted.model || wanted.preset_id;
  const set = (name) => (value) => setForm((before) => ({ ...before, [name]: value.trim() }));
  return html`
    <${Heading} title=${t("console.page.feedback")} text=${t("console.feedback.text")}>
      <${Segments} label=${t("console.feedback.rating")} value=${wanted.rating} onChange=${(rating) => go(["feedback"], { ...wanted, rating })} options=${[
        { value: "", label: t("console.feedback.both") }, { value: "up", label: t("console.rating.up"), icon: "up" }, { value: "down", label: t("console.rating.down"), icon: "down" }]} />
    <//>
    <form class="filters two" role="search" onSubmit=${(event) => { event.preventDefault(); go(["feedback"], { ...form, rating: wanted.rating }); }}>
      <${TextField} label=${t("console.model")} placeholder="qwen-plus" maxlength=${100} value=${form.model} onChange=${set("model")} autocomplete="off" spellcheck=${false} />
      <${TextField} label=${t("console.preset")} placeholder=${t("console.audit.id")} maxlength=${64} value=${form.preset_id} onChange=${set("preset_id")} autocomplete="off" spellcheck=${false} />
      <div class="row"><${Button} type="submit" icon="filter">${t("console.apply")}<//>
      ${filtered && html`<${Button} kind="plain" onClick=${() => go(["feedback"])}>${t("console.show_all")}<//>`}</div>
    </form>
    ${list.error && !list.items.length ? html`<${Failure} error=${list.error} retry=${list.reload} />`
      : !list.items.length && list.loading ? html`<div class="waiting"><${Spinner} /></div>`
      : !list.items.length ? html`<${Empty} icon="up" title=${t(filtered ? "console.feedback.none_found" : "console.feedback.none")}><p>${t("console.feedback.none_text")}</p><//>`
      : html`<ul class="cards-list">${list.items.map((rated) => html`<${Rated} key=${rated.id} rated=${rated} />`)}</ul><${More} list=${list} />`}`;
}

/** @param {{rated: any}} props */
function Rated({ rated }) {
  const up = rated.rating === "up";
  return html`<li class="card rated">
    <div class="row wrap"><span class=${`badge ${up ? "accent" : "danger"}`}><${Icon} name=${up ? "up" : "down"} />${t(`console.rating.${rated.rating}`)}</span>
      ${rated.tags.map((tag) => html`<span class="badge" key=${tag}>${named("console.tag", tag)}</span>`)}
      <span class="grow"></span><span class="muted small"><${Time} value=${rated.update_time} /></span></div>
    ${rated.comment && html`<blockquote>${rated.comment}</blockquote>`}
    <dl class="facts small">
      <div><dt>${t("console.model")}</dt><dd><a href=${address(["feedback"], { model: rated.model })}><code>${rated.model}</code></a></dd></div>
      <div><dt>${t("console.preset")}</dt><dd><${Id} value=${rated.preset_id} href=${address(["feedback"], { preset_id: rated.preset_id })} /></dd></div>
      <div><dt>${t("console.users.user")}</dt><dd><${Id} value=${rated.user_id} href=${address(["users", rated.user_id])} /></dd></div>
      <div><dt>${t("console.feedback.chat")}</dt><dd><${Id} value=${rated.chat_id} /> <span class="muted">${t("console.feedback.message", { n: rated.n })}</span></dd></div>
    </dl>
  </li>`;
}

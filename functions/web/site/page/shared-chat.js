/** A chat, as a share link shows it to anybody. */
import { Button, Deer, Empty, Icon, Spinner, html, useEffect, useSignal } from "../shared/ui.js";
import { ApiError, explain, request, signedIn } from "../shared/session.js";
import { formatFullTime, t } from "../shared/text.js";
import { WindowedList } from "../shared/list.js";
import { Markdown } from "../shared/markdown.js";
import { Reasoning, Sources } from "./message.js";

/** @param {{message: any, token: string}} props */
function Shared({ message, token }) {
  if (message.role !== "user") return html`<article class="message answer" aria-label=${t("message.answer")}><${Reasoning} text=${message.reasoning ?? ""} /><${Markdown} text=${message.content} /><${Sources} sources=${message.sources ?? []} /></article>`;
  if (message.type === "image" && message.content.startsWith("upload:")) {
    return html`<article class="message question"><span class="picture"><img src=${`/api/v1/shared/${token}/messages/${message.n}/upload`} alt=${t("message.image")} loading="lazy" /></span></article>`;
  }
  if (message.type === "document") return html`<article class="message question"><span class="file-chip"><${Icon} name="file" />${t("message.document")}</span></article>`;
  return html`<article class="message question" aria-label=${t("shared.question")}><div class="bubble">${message.content}</div></article>`;
}

/** @param {{token: string}} props */
export function SharedChat({ token }) {
  const about = useSignal(/** @type {any} */ (null));
  const messages = useSignal(/** @type {any[]} */ ([]));
  const next = useSignal("");
  const error = useSignal(/** @type {any} */ (null));
  const busy = useSignal(false);
  const read = async (path) => {
    if (busy.value) return;
    busy.value = true;
    try {
      const { headers, data } = await request("GET", path);
      about.value = data;
      messages.value = [...messages.value, ...data.messages];
      next.value = (/<([^>]+)>;\s*rel="?next"?/.exec(headers.get("Link") ?? "")?.[1] ?? "").replace(/^.*\/api\/v1/, "");
      document.title = `${data.title} · AIDeer`;
    } catch (caught) {
      error.value = caught;
    } finally {
      busy.value = false;
    }
  };
  useEffect(() => { read(`/shared/${token}?after=0&limit=100`); }, [token]);
  const shown = messages.value.filter((one) => one.role !== "system");
  return html`<main class="shared">
    <header><a class="brand grow" href="/"><${Deer} size=${26} /><span>AIDeer</span></a><a class="button primary" href="/">${t(signedIn.value ? "shared.open" : "shared.try")}</a></header>
    ${error.value ? html`<div class="thread-empty"><${Empty} icon="link" title=${error.value instanceof ApiError && error.value.status === 404 ? t("shared.gone") : explain(error.value)}>
        ${error.value.status !== 404 && html`<${Button} icon="again" onClick=${() => { error.value = null; read(`/shared/${token}?after=0&limit=100`); }}>${t("ui.retry")}<//>`}<//></div>`
      : !about.value ? html`<div class="thread-empty"><${Spinner} /></div>`
      : html`<${WindowedList} class="thread" role="log" label=${t("thread.label")} items=${shown} keyOf=${(one) => String(one.n)} estimate=${(one) => 90 + Math.ceil(one.content.length / 70) * 27}
          renderItem=${(one) => html`<div class="turn"><${Shared} message=${one} token=${token} /></div>`} onEnd=${() => { if (next.value) read(next.value); }}
          before=${html`<div class="shared-about"><h1>${about.value.title || t("chat.untitled")}</h1><p class="muted small">${[about.value.owner && t("shared.by", { name: about.value.owner }), about.value.preset, t("shared.since", { time: formatFullTime(about.value.create_time) })].filter(Boolean).join(" · ")}</p></div>`}
          after=${html`<div class="thread-bottom"></div>`} />`}
  </main>`;
}

/** The API keys of a user: an administrator looks at them, and revokes one that leaked. */
import { stateOf } from "../shared/key-state.js";
import { formatNumber, t } from "../shared/text.js";
import { Button, Empty, html, useId, useLayoutEffect, useState } from "../shared/ui.js";
import { ask, read, useLoad } from "./calls.js";
import { Loaded, Panel, Table, Time, askAndDo } from "./parts.js";

/** The keys are read when they are wanted: each look is noted in the audit trail. @param {{user: any}} props */
export function UserKeys({ user }) {
  const [shown, setShown] = useState(false);
  const id = useId();
  return html`<${Panel} title=${t("console.keys.title")} text=${t("console.keys.text")}
      actions=${html`<${Button} small icon="key" id=${id} aria-expanded=${String(shown)} onClick=${() => setShown(!shown)}>${t(shown ? "console.keys.hide" : "console.keys.show")}<//>`}>
    ${shown && html`<${Keys} path=${`/users/${encodeURIComponent(user.id)}/keys`} button=${id} />`}
  <//>`;
}

/** @param {{path: string, button: string}} props `button` gets the focus that goes with a revoked key */
function Keys({ path, button }) {
  const loaded = useLoad((signal) => read(path, signal), path);
  useLayoutEffect(() => {
    if (document.activeElement === document.body) document.getElementById(button)?.focus();
  }, [loaded.data]);
  const revoke = (key) => askAndDo({
    title: t("console.keys.revoke_title", { name: key.name }),
    text: t("console.keys.revoke_text"),
    action: t("console.keys.revoke"),
    done: t("console.keys.revoked", { name: key.name }),
    run: async () => {
      await ask("DELETE", `${path}/${encodeURIComponent(key.id)}`);
      loaded.reload();
    },
  });
  return html`<${Loaded} of=${loaded}>${(keys) => (keys.length
    ? html`<${Table} label=${t("console.keys.title")} rows=${keys} id=${(key) => key.id} columns=${[
      { name: "name", label: t("console.keys.name"), wide: true, cell: (key) => html`<span class="who"><strong>${key.name}</strong><code class="muted small">sk-…${key.hint}</code></span>` },
      { name: "state", label: t("console.keys.state"), cell: (key) => html`<span class=${`badge ${stateOf(key).kind}`}>${t(`console.keys.state_${stateOf(key).name}`)}</span>` },
      { name: "models", label: t("console.model"), cell: (key) => (key.models ? key.models.join(", ") : t("console.keys.all_models")) },
      { name: "last", label: t("console.keys.last_used"), cell: (key) => html`<${Time} value=${key.last_used_time} />` },
      { name: "used", label: t("console.keys.used"), number: true, cell: (key) => (key.credit_limit === null ? formatNumber(key.credits_used)
        : t("console.keys.used_of", { used: key.credits_used, limit: key.credit_limit })) },
      { name: "revoke", label: "", cell: (key) => html`<${Button} small kind="danger" aria-label=${t("console.keys.revoke_one", { name: key.name })} onClick=${() => revoke(key)}>${t("console.keys.revoke")}<//>` },
    ]} />`
    : html`<${Empty} icon="key" title=${t("console.keys.none")} />`)}<//>`;
}

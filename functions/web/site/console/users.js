/** Users: the list, the search by name or id, and one user with the ledger and all actions. */
import { user as me } from "../shared/session.js";
import { formatNumber, t } from "../shared/text.js";
import { Button, Icon, Segments, html, openDialog, toast, useState } from "../shared/ui.js";
import { ask, newKey, read, useForm, useList, useLoad, withQuery } from "./calls.js";
import { Amount, Figure, Figures, FormDialog, Heading, Id, ListTable, Loaded, None, Panel, Search, Select, TextField, Time, askAndDo, named } from "./parts.js";
import { address, go } from "./routes.js";
import { UserKeys } from "./user-keys.js";

const PERMISSIONS = [0, 1, 2];
const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** @param {{parts: string[], query: URLSearchParams}} props */
export default function Users({ parts, query }) {
  return parts[0] ? html`<${OneUser} id=${parts[0]} />` : html`<${UserList} name=${query.get("name") ?? ""} />`;
}

/** @param {{permission: number}} props */
function Permission({ permission }) {
  const kinds = { 0: "warning", 2: "accent" };
  return html`<span class=${`badge ${kinds[permission] ?? ""}`}>${t(`console.permission.${permission}`)}</span>`;
}

/** @param {{name: string}} props */
function UserList({ name }) {
  const [typed, setTyped] = useForm(name);
  const list = useList(withQuery("/users", { limit: 25, q: name }));
  const search = () => {
    const wanted = typed.trim();
    if (ID.test(wanted)) go(["users", wanted.toLowerCase()]);
    else go(["users"], { name: wanted });
  };
  return html`
    <${Heading} title=${t("console.page.users")} text=${t("console.users.text")} />
    <${Search} label=${t("console.users.search")} hint=${t("console.users.search_hint")} value=${typed} onChange=${setTyped} onSearch=${search} maxlength=${50} onClear=${name ? () => go(["users"]) : undefined} />
    <${ListTable} list=${list} label=${t("console.page.users")} id=${(row) => row.id} href=${(row) => address(["users", row.id])}
      empty=${name ? { icon: "users", title: t("console.users.not_found", { name }), text: t("console.users.not_found_text") } : { icon: "users", title: t("console.users.none") }}
      columns=${[
        { name: "nickname", label: t("console.users.user"), wide: true, cell: (row) => html`<span class="who"><strong>${row.nickname}</strong><span class="muted small">${row.username ?? t("console.users.no_username")}</span></span>` },
        { name: "permission", label: t("console.users.permission"), cell: (row) => html`<${Permission} permission=${row.permission} />` },
        { name: "credits", label: t("console.users.credits"), number: true, cell: (row) => formatNumber(row.credits_left) },
        { name: "held", label: t("console.users.held"), number: true, cell: (row) => (row.credits_held ? formatNumber(row.credits_held) : html`<${None} />`) },
        { name: "since", label: t("console.users.since"), cell: (row) => html`<${Time} value=${row.create_time} />` },
      ]} />`;
}

/** @param {{id: string}} props */
function OneUser({ id }) {
  const loaded = useLoad((signal) => read(`/users/${encodeURIComponent(id)}`, signal), id);
  const back = { href: address(["users"]), label: t("console.page.users") };
  return html`
    ${loaded.data ? html`<${UserHead} user=${loaded.data} back=${back} reload=${loaded.reload} />` : html`<${Heading} title=${t("console.users.user")} back=${back} />`}
    <${Loaded} of=${loaded}>${(user) => html`<${UserBody} key=${`${user.credits_left} ${user.update_time}`} user=${user} />`}<//>`;
}

/** @param {{user: any, back: any, reload: () => void}} props */
function UserHead({ user, back, reload }) {
  const own = me.value?.id === user.id;
  const path = `/users/${encodeURIComponent(user.id)}`;
  const remove = () => askAndDo({
    title: t("console.users.delete_title", { name: user.nickname }),
    text: t("console.users.delete_text", { credits: user.credits_left }),
    action: t("console.delete"),
    word: user.username ?? user.nickname,
    done: t("console.users.deleted", { name: user.nickname }),
    run: async (password) => {
      await ask("DELETE", path, password === undefined ? {} : { body: { current_password: password } });
      go(["users"]);
    },
  });
  return html`<${Heading} title=${user.nickname} back=${back} text=${html`<span class="row wrap"><${Permission} permission=${user.permission} />${user.username && html`<span>${user.username}</span>`}<${Id} value=${user.id} whole /></span>`}>
    <${Button} kind="primary" icon="coin" onClick=${() => openDialog((close) => html`<${Grant} user=${user} close=${close} done=${reload} />`)}>${t("console.users.grant")}<//>
    <${Button} icon="shield" disabled=${own} title=${own ? t("console.users.own_permission") : undefined} onClick=${() => openDialog((close) => html`<${ChangePermission} user=${user} close=${close} done=${reload} />`)}>${t("console.users.permission")}<//>
    <${Button} icon="key" disabled=${!user.username} title=${user.username ? undefined : t("console.users.no_password")} onClick=${() => openDialog((close) => html`<${SetPassword} user=${user} close=${close} />`)}>${t("console.users.password")}<//>
    <${Button} kind="danger" icon="trash" disabled=${own} onClick=${remove}>${t("console.delete")}<//>
  <//>`;
}

/** @param {{user: any}} props */
function UserBody({ user }) {
  const list = useList(`/users/${encodeURIComponent(user.id)}/credits?limit=25`, (data) => data.credit_records);
  return html`
    <${Figures}>
      <${Figure} label=${t("console.users.credits")} value=${formatNumber(user.credits_left)} text=${t("console.users.credits_text")} />
      <${Figure} label=${t("console.users.held")} value=${formatNumber(user.credits_held)} text=${t("console.users.held_text")} />
      <${Figure} label=${t("console.users.since")} value=${html`<span class="date"><${Time} value=${user.create_time} /></span>`} text=${html`<a href=${address(["audit"], { user: user.id })}>${t("console.users.audit")}</a>`} />
    <//>
    <${Panel} title=${t("console.users.ledger")} text=${t("console.users.ledger_text")}>
      <${ListTable} list=${list} label=${t("console.users.ledger")} id=${(row) => row.id} empty=${{ icon: "coin", title: t("console.users.ledger_none") }} columns=${[
        { name: "what", label: t("console.description"), wide: true, cell: (row) => html`<span class="who"><strong>${row.description}</strong><span class="muted small">${named("console.kind", row.kind)}${row.input_tokens !== undefined && ` · ${t("console.users.used_tokens", { input: row.input_tokens, output: row.output_tokens })}`}</span></span>` },
        { name: "time", label: t("console.time"), cell: (row) => html`<${Time} value=${row.create_time} />` },
        { name: "task", label: t("console.users.task"), cell: (row) => html`<${Id} value=${row.task_id} />` },
        { name: "amount", label: t("console.users.credits"), number: true, cell: (row) => html`<${Amount} value=${row.amount} />` },
      ]} />
    <//>
    <${UserKeys} user=${user} />`;
}

/** @param {{user: any, close: () => void, done: () => void}} props */
function Grant({ user, close, done }) {
  const [direction, setDirection] = useState(1);
  const [amount, setAmount] = useState("");
  const [description, setDescription] = useState("");
  const [key] = useState(newKey); // the same one if the answer is lost and the administrator tries again
  const number = Number(amount);
  const ready = Number.isSafeInteger(number) && number > 0 && description.trim() !== "";
  const after = ready ? user.credits_left + direction * number : user.credits_left;
  return html`<${FormDialog} title=${t("console.users.grant_title", { name: user.nickname })} action=${t(direction > 0 ? "console.users.give" : "console.users.take")} danger=${direction < 0} ready=${ready} close=${close}
      onSubmit=${async () => {
        const { data } = await ask("POST", `/users/${encodeURIComponent(user.id)}/credits`, { body: { amount: direction * number, description: description.trim() }, headers: { "Idempotency-Key": `${key}-${direction * number}-${hash(description.trim())}` } });
        toast(t("console.users.granted", { credits: data.credits_left }));
        done();
      }}>
    <${Segments} label=${t("console.users.direction")} value=${direction} onChange=${setDirection} options=${[{ value: 1, label: t("console.users.give") }, { value: -1, label: t("console.users.take") }]} />
    <${TextField} label=${t("console.users.amount")} type="number" inputmode="numeric" min="1" max="1000000000000" step="1" required value=${amount} onChange=${setAmount} />
    <${TextField} label=${t("console.users.grant_description")} hint=${t("console.users.grant_hint")} required maxlength=${255} value=${description} onChange=${setDescription} />
    <p class="sum row between"><span class="muted">${t("console.users.after")}</span><strong class="number">${formatNumber(user.credits_left)} <${Icon} name="chevron-right" /> ${formatNumber(after)}</strong></p>
  <//>`;
}

/** A short mark of a text. An Idempotency-Key is of one body: an edited form needs another key. @param {string} text */
function hash(text) {
  let value = 0;
  for (const character of text) value = (value * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
  return value.toString(36);
}

/** @param {{user: any, close: () => void, done: () => void}} props */
function ChangePermission({ user, close, done }) {
  const [permission, setPermission] = useState(String(user.permission));
  const wanted = Number(permission);
  return html`<${FormDialog} title=${t("console.users.permission_title", { name: user.nickname })} text=${t("console.users.permission_text")} action=${t("console.change")} danger=${wanted === 2} ready=${wanted !== user.permission} close=${close}
      onSubmit=${async (password) => {
        await ask("PUT", `/users/${encodeURIComponent(user.id)}`, { body: { permission: wanted, ...(password === undefined ? {} : { current_password: password }) } });
        toast(t("console.users.permission_done", { name: user.nickname, permission: t(`console.permission.${wanted}`) }));
        done();
      }}>
    <${Select} label=${t("console.users.permission")} hint=${t(`console.permission_text.${permission}`)} value=${permission} onChange=${setPermission} options=${PERMISSIONS.map((value) => ({ value: String(value), label: t(`console.permission.${value}`) }))} />
  <//>`;
}

/** @param {{user: any, close: () => void}} props */
function SetPassword({ user, close }) {
  const [password, setPassword] = useState("");
  return html`<${FormDialog} title=${t("console.users.password_title", { name: user.nickname })} text=${t("console.users.password_text")} action=${t("console.users.password_set")} danger ready=${password.length >= 6} close=${close}
      onSubmit=${async (own) => {
        await ask("PUT", `/users/${encodeURIComponent(user.id)}/password`, { body: { new_password: password, ...(own === undefined ? {} : { current_password: own }) } });
        toast(t("console.users.password_done"));
      }}>
    <${TextField} label=${t("console.users.new_password")} hint=${t("console.users.new_password_hint")} type="text" autocomplete="off" autocapitalize="none" spellcheck=${false} required minlength=${6} maxlength=${255} value=${password} onChange=${setPassword} />
    <div><${Button} small icon="sparkle" onClick=${() => setPassword(invent())}>${t("console.users.invent")}<//></div>
  <//>`;
}

/** Return a password that is easy to read out: twelve letters and digits in three groups. */
function invent() {
  const letters = "abcdefghjkmnpqrstuvwxyz23456789";
  // 248 is the largest multiple of 31 in a byte: above it, some letters would come more often.
  const picked = [];
  while (picked.length < 12) {
    const [byte] = crypto.getRandomValues(new Uint8Array(1));
    if (byte < 248) picked.push(letters[byte % letters.length]);
  }
  return picked.join("").replace(/(.{4})(?=.)/g, "$1-");
}

/**
 * A client of AIDeer for browsers and Node: sign in, ask, read the answer as it is made, resume it, stop it.
 *
 * These rules always hold.
 * - No token is in an address. Tokens are in the caller's `storage`, and are read there each time: another tab may have new ones.
 * - One refresh runs at a time, and all calls that wait for it use its result. A refresh token used twice ends all sessions.
 * - A question has one Idempotency-Key. If its line is lost, it is sent again with this key, so it is never asked twice.
 * - A lost answer goes on at the position of its last whole event. A position counts code points, and comes from the server.
 *
 * @typedef {{ access_token: string, refresh_token: string, stream_base?: string | null }} Tokens
 * @typedef {{ get(): Tokens | null, set(tokens: Tokens | null): void }} Storage
 * @typedef {{ base?: string, storage?: Storage, onSignedOut?: () => void, language?: string, silence?: number, attempts?: number,
 *   fetch?: typeof fetch, wait?: (milliseconds: number, signal: AbortSignal) => Promise<void> }} Options
 *   After `silence` milliseconds without a byte, a line counts as lost. It is opened again, `attempts` times in a row.
 * @typedef {{ body?: unknown, headers?: Record<string, string>, signal?: AbortSignal }} Call
 * @typedef {{ status: number, headers: Headers, data: any }} Reply `data` is JSON, a text or a Blob
 * @typedef {{ id: string, event: string, data: string, retry?: number }} ServerEvent
 * @typedef {{ type: "open" | "text" | "reasoning" | "lost" | "resumed" | "sources" | "end", text: string,
 *   position: number, data: any }} Event
 */

const [FIRST_WAIT, LONGEST_WAIT, BUSY] = [500, 15_000, [429, 502, 503, 504]];

/** A refusal of the API. A request that did not arrive has the status 0 and the code "network". */
export class ApiError extends Error {
  /** @param {number} status @param {string} code @param {string} message @param {number | null} retryAfter @param {any} data */
  constructor(status, code, message, retryAfter = null, data = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
    this.data = data;
  }
}

export class Aideer {
  #refreshing = /** @type {Promise<boolean> | null} */ (null);

  /** @param {Options} [options] */
  constructor(options = {}) {
    let kept = /** @type {Tokens | null} */ (null);
    this.base = (options.base ?? globalThis.location?.origin ?? "").replace(/\/$/, "");
    this.storage = options.storage ?? { get: () => kept, set: (tokens) => void (kept = tokens) };
    this.onSignedOut = options.onSignedOut ?? (() => {});
    this.language = options.language ?? ""; // of errors
    this.silence = options.silence ?? 45_000; // the server sends a byte every 15 s
    this.attempts = options.attempts ?? 40;
    this.wait = options.wait ?? wait;
    this.fetch = options.fetch ?? globalThis.fetch.bind(globalThis);
  }

  /** Whether there are tokens. The server may have ended their session. */
  get signedIn() { return this.storage.get() !== null; }

  /** @param {string} username @param {string} password @param {string} [device] its name in the list of sessions */
  async signIn(username, password, device) {
    await this.#exchange({ grant_type: "password", username, password, ...(device ? { device } : {}) });
  }

  /** Sign up, and sign in. @param {{ username: string, password: string, nickname?: string }} user */
  async signUp(user) {
    await this.#post("/api/v1/users", user);
    await this.signIn(user.username, user.password);
  }

  /** End the session of this device. The tokens are forgotten, even if the server does not answer. */
  async signOut() {
    if (this.signedIn) await this.request("DELETE", "/api/v1/users/me/sessions/current").catch(() => {});
    this.storage.set(null);
  }

  /** Call the API. @param {string} method @param {string} path @param {Call} [call] @returns {Promise<Reply>} */
  async request(method, path, call = {}) {
    const response = await this.send(this.base, method, path, call);
    return { status: response.status, headers: response.headers, data: await read(response) };
  }

  /** Ask: the body of POST /tasks/stream. @param {object} question @param {{ key?: string, signal?: AbortSignal }} [options] */
  ask(question, { key = crypto.getRandomValues(new Uint32Array(4)).join("-"), signal } = {}) {
    return new Answer(this, { question, key, signal });
  }

  /** Read an answer from a position on. @param {string} taskId @param {{ after?: number, signal?: AbortSignal }} [options] */
  follow(taskId, options) {
    return new Answer(this, { taskId, ...options });
  }

  /** Stop an answer. What was made until then stays, and is billed. @param {string} taskId @returns {Promise<any>} the task */
  async stop(taskId) {
    return (await this.request("POST", `/api/v1/tasks/${encodeURIComponent(taskId)}/stop`)).data;
  }

  /** Send a request, again after a refresh. @param {string} base @param {string} method @param {string} path @param {Call} call */
  async send(base, method, path, call) {
    const used = this.storage.get();
    try {
      return await this.#fetch(base, method, path, call, used);
    } catch (error) {
      if (!used || !(error instanceof ApiError) || error.status !== 401 || !(await this.#refresh(used))) throw error;
      return this.#fetch(base, method, path, call, this.storage.get());
    }
  }

  /** Replace refused tokens. Return false if the session is over. @param {Tokens} used @returns {Promise<boolean>} */
  #refresh(used) {
    const work = async () => {
      const stored = this.storage.get();
      if (!stored || stored.access_token !== used.access_token) return stored !== null; // another call or tab has done it
      try {
        await this.#exchange({ grant_type: "refresh_token", refresh_token: stored.refresh_token });
      } catch (error) {
        if (!(error instanceof ApiError) || ![400, 401].includes(error.status)) throw error;
        this.storage.set(null);
        this.onSignedOut();
      }
      return this.signedIn;
    };
    const locks = globalThis.navigator?.locks;
    return (this.#refreshing ??= (locks ? locks.request("aideer-refresh", work) : work()).finally(() => (this.#refreshing = null)));
  }

  /** Get tokens, and keep them. Where nothing streams, the server names no stream_base. @param {Record<string, string>} form */
  #exchange = async (form) => this.storage.set({ stream_base: null, ...(await this.#post("/api/v1/session/oauth2/token", new URLSearchParams(form))) });

  /** @param {string} path @param {unknown} body @returns {Promise<any>} */
  #post = async (path, body) => read(await this.#fetch(this.base, "POST", path, { body }, null));

  /** @param {string} base @param {string} method @param {string} path @param {Call} call @param {Tokens | null} tokens */
  async #fetch(base, method, path, { body, headers, signal }, tokens) {
    const sent = new Headers(headers);
    if (tokens) sent.set("Authorization", `Bearer ${tokens.access_token}`);
    if (this.language) sent.set("Accept-Language", this.language);
    const isRaw = body === undefined || [FormData, URLSearchParams, Blob].some((type) => body instanceof type);
    if (!isRaw) sent.set("Content-Type", "application/json");
    const content = /** @type {any} */ (isRaw ? body : JSON.stringify(body));
    const response = await this.fetch(base + path, { method, headers: sent, body: content, signal }).catch((error) => {
      throw signal?.aborted ? error : new ApiError(0, "network", "The server cannot be reached.");
    });
    if (response.ok || response.status === 304) return response;
    throw await refusal(response);
  }
}

/**
 * An answer: iterate it once. Its `taskId` is known from the event `open` on. After `lost`, the line is opened again, and `resumed`
 * follows. If you leave the iteration, or abort its signal, the answer is made all the same, and `follow` can read it later.
 */
export class Answer {
  #stopped = false;
  #opened = false;
  #gone = new AbortController();

  /** @param {Aideer} api @param {{taskId?: string, after?: number, signal?: AbortSignal, question?: object, key?: string}} from */
  constructor(api, { taskId = "", after = 0, signal, question, key = "" }) {
    this.api = api;
    this.question = question;
    this.key = key;
    this.taskId = taskId;
    this.position = after;
    const abort = () => this.#gone.abort(signal?.reason);
    signal?.aborted ? abort() : signal?.addEventListener("abort", abort);
  }

  /** Stop the answer, as soon as its task is known. The event `end` follows. */
  async stop() {
    this.#stopped = true;
    if (this.taskId) await this.api.stop(this.taskId);
  }

  /** @returns {AsyncGenerator<Event, void, void>} */
  async *[Symbol.asyncIterator]() {
    for (let failures = 0, pause = 0; ; ) {
      try {
        pause = 0;
        for await (const event of this.#connect()) {
          pause = event.retry ?? pause; // this stream comes in parts, so its end is no loss
          for (const made of this.#read(event)) {
            if (made.type === "text" || made.type === "reasoning") failures = 0;
            yield made;
            if (made.type === "end") return;
          }
          if (event.event === "close") return;
        }
        if (pause === 0) throw new ApiError(0, "network", "The line was lost.");
      } catch (error) {
        if (!(error instanceof ApiError) || ++failures > this.api.attempts) throw error;
        // A refused question was not asked: what to do is for the caller to decide.
        if (error.status && !(BUSY.includes(error.status) && (this.taskId || error.code === "busy"))) throw error;
        const backoff = Math.min(FIRST_WAIT * 2 ** (failures - 1), LONGEST_WAIT) * (0.5 + Math.random() / 2);
        pause = Math.max(backoff, (error.retryAfter ?? 0) * 1000);
        yield this.#event("lost", "", { error, failures, pause });
      }
      await this.api.wait(pause, this.#gone.signal);
    }
  }

  /** @returns {AsyncGenerator<ServerEvent, void, void>} of one connection */
  async *#connect() {
    const line = new AbortController();
    const hear = () => setTimeout(() => line.abort(), this.api.silence);
    let timer = hear();
    try {
      const response = await this.#open(AbortSignal.any([this.#gone.signal, line.signal]));
      const body = /** @type {ReadableStream<Uint8Array>} */ (response.body);
      yield* readEvents(body, () => (clearTimeout(timer), (timer = hear())));
    } catch (error) {
      if (this.#gone.signal.aborted || error instanceof ApiError) throw error;
      throw new ApiError(0, "network", "The line was lost.");
    } finally {
      clearTimeout(timer);
      line.abort();
    }
  }

  /** Where no host streams, the question is queued first, and the stream comes in parts. @param {AbortSignal} signal */
  async #open(signal) {
    const base = this.api.storage.get()?.stream_base;
    if (!this.taskId) {
      const call = { body: this.question, headers: { "Idempotency-Key": this.key }, signal };
      if (base !== null) return this.api.send(base ?? this.api.base, "POST", "/api/v1/tasks/stream", call);
      this.taskId = (await this.api.request("POST", "/api/v1/tasks", call)).data.task_id;
    }
    const path = `/api/v1/tasks/${encodeURIComponent(this.taskId)}/stream?after=${this.position}`;
    return this.api.send(base ?? this.api.base, "GET", path, { signal });
  }

  /** @param {ServerEvent} event @returns {Generator<Event, void, void>} */
  *#read({ id, event, data }) {
    const body = data ? JSON.parse(data) : {};
    if (event === "start") {
      [this.taskId, this.position] = [body.task_id, body.position];
      if (this.#stopped) this.api.stop(this.taskId).catch(() => {});
      yield this.#event(this.#opened ? "resumed" : "open", "", body);
      this.#opened = true;
    } else if (event === "message" && id === "end") {
      if (body.sources?.length) yield this.#event("sources", "", body.sources);
      yield this.#event("end", body.content ?? "", body);
    } else if (event === "message") {
      this.position = Number(id);
      yield this.#event(body.reasoning === undefined ? "text" : "reasoning", body.reasoning ?? body.content ?? "", body);
    }
  }

  /** @param {Event["type"]} type @param {string} text @param {any} data @returns {Event} */
  #event = (type, text, data) => ({ type, text, position: this.position, data });
}

/**
 * Read Server-Sent Events (HTML Living Standard, section 9.2) of bytes that are cut anywhere. An event without its end is dropped.
 * @param {ReadableStream<Uint8Array>} body @param {() => void} [heard] @returns {AsyncGenerator<ServerEvent, void, void>}
 */
export async function* readEvents(body, heard = () => {}) {
  const [reader, decoder] = [body.getReader(), new TextDecoder()];
  let [rest, id, event, retry] = ["", "", "", /** @type {number | undefined} */ (undefined)];
  let data = /** @type {string[]} */ ([]);
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    heard();
    rest += decoder.decode(part.value, { stream: true });
    const lines = rest.split(/\r\n|\n|\r(?!$)/); // a CR at the end may be half of a line end
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
      if (field === "data") data.push(value);
      else if (field === "event") event = value;
      else if (field === "id") id = value;
      else if (field === "retry" && /^\d+$/.test(value)) retry = Number(value);
      if (line !== "") continue;
      const type = data.length ? event || "message" : "";
      if (type || retry !== undefined) yield { id, event: type, data: data.join("\n"), retry };
      [data, event, retry] = [[], "", undefined];
    }
  }
}

/** @param {Response} response @returns {Promise<any>} */
async function read(response) {
  const type = response.headers.get("Content-Type") ?? "";
  if (response.status === 304 || response.status === 204) return null;
  if (type.includes("json")) return response.json();
  return type.startsWith("text/") ? response.text() : response.blob();
}

/** @param {Response} response */
async function refusal(response) {
  const data = await read(response).catch(() => null); // API Gateway and proxies have no codes
  const said = data?.detail ?? data?.message ?? response.statusText;
  const detail = Array.isArray(said) ? said.map((part) => part.msg).join(" ") : said;
  const after = Number(response.headers.get("Retry-After")) || null;
  return new ApiError(response.status, data?.code ?? `http_${response.status}`, detail, after, data);
}

/** Wait, but no longer than until a browser is online again. @param {number} milliseconds @param {AbortSignal} signal */
async function wait(milliseconds, signal) {
  signal.throwIfAborted();
  await new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    globalThis.addEventListener?.("online", resolve, { once: true, signal });
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

/** The reader of the mini program with the interface of clients/js, so that both pass the same tests. */
import { load } from "./program.js";
import { makePhone, memory } from "./wx.js";

export class ApiError extends Error {
  constructor({ status, code, detail, retryAfter, data }) {
    super(detail);
    Object.assign(this, { status, code, retryAfter, data });
  }
}

export class Aideer {
  /** @param {any} options those of clients/js */
  constructor({ base, storage, wait, ...options } = {}) {
    let kept = null;
    this.storage = storage ?? { get: () => kept, set: (tokens) => { kept = tokens; } };
    const others = memory();
    this.phone = makePhone({
      storage: {
        get: (name) => (name === "aideer.tokens" ? this.storage.get() ?? "" : others.get(name)),
        set: (name, value) => (name === "aideer.tokens" ? this.storage.set(value ? JSON.parse(JSON.stringify(value)) : null) : others.set(name, value)),
        remove: others.remove,
      },
    });
    const never = new AbortController().signal;
    const later = wait && ((run, milliseconds) => void wait(milliseconds, never).then(run, () => {}));
    this.reader = load(this.phone.wx).require("aideer.js").create({ base, later, ...options });
  }

  get signedIn() { return this.reader.tokens() !== null; }

  signOut() { return new Promise((resolve) => this.reader.signOut(resolve)); }

  request(method, path, { signal, ...call } = {}) {
    return new Promise((resolve, reject) => {
      const task = this.reader.request(method, path, call, (error, reply) => {
        if (error) reject(new ApiError(error));
        else resolve({ ...reply, headers: new Headers(reply.headers) });
      });
      signal?.addEventListener("abort", () => { reject(signal.reason); task.abort(); });
    });
  }

  ask(question, { key, signal } = {}) { return new Answer((tell) => this.reader.ask(question, { key }, tell), signal); }
  follow(taskId, { after, signal } = {}) { return new Answer((tell) => this.reader.follow(taskId, { after }, tell), signal); }
  async stop(taskId) { return (await this.request("POST", `/api/v1/tasks/${taskId}/stop`)).data; }
}

class Answer {
  #open;
  #stopped = false;

  constructor(open, signal) {
    this.#open = open;
    this.signal = signal;
  }

  get taskId() { return this.answer?.taskId ?? ""; }

  async stop() {
    this.#stopped = true;
    this.answer?.stop();
  }

  async *[Symbol.asyncIterator]() {
    this.signal?.throwIfAborted();
    const told = [];
    let wake = () => {};
    const tell = (event) => { told.push(event); wake(); };
    this.signal?.addEventListener("abort", () => wake());
    this.answer = this.#open(tell);
    if (this.#stopped) this.answer.stop();
    try {
      for (;;) {
        this.signal?.throwIfAborted();
        const event = told.shift();
        if (!event) await new Promise((resolve) => { wake = resolve; });
        else if (event.type === "error") throw new ApiError(event.data);
        else if (event.type === "gone") return;
        else {
          if (event.type === "end" && event.data.sources?.length) yield { ...event, type: "sources", text: "", data: event.data.sources };
          yield event;
          if (event.type === "end") return;
        }
      }
    } finally {
      this.answer.abort();
    }
  }
}

/** @param {ReadableStream<Uint8Array>} body */
export async function* readEvents(body) {
  const told = [];
  const feed = load(makePhone().wx).require("aideer.js").parser((event) => told.push(event));
  for await (const part of body) {
    feed(Array.from(part));
    yield* told.splice(0);
  }
}

// The AI SDK's Chat, which useChat keeps, with DefaultChatTransport, in the cases of cases.py (CHAT_CASES). with_chat6.mjs and
// with_chat7.mjs give it their package. Each case returns the tokens that its answers have told.

import { FAIL, MOST_ASKS, THINK, VISION, require, run } from "./cases.mjs";

export const PICTURE =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAUElEQVR42pXCERaFAABE0becWcQsLAiCD0EQBEEQfAiCoAW2hnfPJUNVMlYlU1Xyq0rmqmSpStaqZKtK9qrkqErOquRflVxVyV2VPFXJW/UDj4L6AfhxDpsAAAAASUVORK5CYII=";
const SLOW_ANSWER = "/sim tokens=60 delay=120";
const SECOND = 1000;

export function runWith({ AbstractChat, DefaultChatTransport, generateId }) {
  /** Plain values in the place of the state of a framework. */
  class State {
    status = "ready";
    error = undefined;
    messages = [];
    pushMessage = (message) => (this.messages = [...this.messages, message]);
    popMessage = () => (this.messages = this.messages.slice(0, -1));
    replaceMessage = (at, message) =>
      (this.messages = [...this.messages.slice(0, at), structuredClone(message), ...this.messages.slice(at + 1)]);
    snapshot = (value) => structuredClone(value);
  }

  class Chat extends AbstractChat {
    constructor(door, { fetch, token = door.token, id = generateId() } = {}) {
      const headers = () => ({ Authorization: `Bearer ${token}` });
      const transport = new DefaultChatTransport({ api: door.api, headers, body: { preset_id: door.preset }, fetch });
      super({ id, transport, generateId, state: new State() });
      this.door = door;
    }

    /** The answer that is shown last, which must have ended well. */
    get answer() {
      const message = this.messages.at(-1);
      require(this.status === "ready" && message.role === "assistant", this.error?.message ?? this.status);
      return { ...message, ...message.metadata, text: read(message, "text"), reasoning: read(message, "reasoning") };
    }

    async ask(text, options) {
      await this.sendMessage(typeof text === "string" ? { text } : text, options);
      return this.answer;
    }

    /** Ask, and do something as soon as some text is shown. */
    async askUntil(text, act) {
      const asking = this.sendMessage({ text });
      const give_up_at = Date.now() + 30 * SECOND;
      while (!(this.messages.at(-1)?.role === "assistant" && read(this.messages.at(-1), "text"))) {
        require(Date.now() < give_up_at, "no text");
        await pause(5);
      }
      await act();
      await asking;
    }

    /** What the refusal or the failure of the last request says. */
    get refusal() {
      require(this.status === "error", this.status);
      return JSON.parse(this.error.message);
    }

    /** A call of AIDeer's own. */
    async call(method, path) {
      const url = new URL(path, this.door.api);
      const answer = await fetch(url, { method, headers: { Authorization: `Bearer ${this.door.token}` } });
      return answer.status === 204 ? null : await answer.json();
    }

    /** The messages of the chat as AIDeer has stored them. */
    async stored() {
      const { chat_id } = this.messages.at(-1).metadata;
      return (await this.call("GET", `/api/v1/chats/${chat_id}`)).messages;
    }

    /** Whether the client shows what is stored, and no more. */
    async requireStored() {
      const shown = this.messages.map((message) => read(message, "text"));
      const stored = (await this.stored()).filter((message) => message.type === "text").map((message) => message.content);
      require(JSON.stringify(shown) === JSON.stringify(stored), { shown, stored });
    }
  }

  const read = (message, type) =>
    message.parts
      .filter((part) => part.type === type)
      .map((part) => part.text)
      .join("");
  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const told = (...answers) => answers.map(({ usage }) => [usage.input_tokens, usage.output_tokens]);

  run({
    async ask(door) {
      const chat = new Chat(door);
      const answer = await chat.ask("Hello");
      require(answer.id === answer.task_id && answer.status === "finished", answer);
      await chat.requireStored();
      return told(answer);
    },
    async go_on(door) {
      const chat = new Chat(door);
      const answers = [await chat.ask("/sim tokens=5 One"), await chat.ask("/sim tokens=5 Two")];
      require((await chat.stored()).length === 4, "one chat");
      await chat.requireStored();
      return told(...answers);
    },
    async stream(door) {
      const chat = new Chat(door);
      const body = { model: "qwen3.5-plus", parameters: { enable_thinking: true } };
      const answer = await chat.ask(THINK, { body });
      require(answer.text && answer.reasoning, answer);
      const kinds = answer.parts.map((part) => part.type).filter((type) => type !== "step-start");
      require(kinds.join() === "reasoning,text", kinds);
      require(answer.parts.every((part) => part.state !== "streaming"), answer);
      return told(answer);
    },
    async resume(door) {
      const chat = new Chat(door, { fetch: cutOnce() });
      await chat.sendMessage({ text: SLOW_ANSWER });
      require(chat.status === "error", `a stream that is cut counts as ${chat.status}`);
      const before = read(chat.messages.at(-1), "text");
      await chat.resumeStream();
      const { answer } = chat;
      require(chat.messages.length === 2, "the answer is shown once");
      require(before && answer.text.startsWith(before) && answer.text.length > before.length, answer.text);
      await chat.requireStored();
      await chat.resumeStream();
      require(chat.status === "ready" && chat.messages.length === 2, "nothing is answering any more");
      return told(answer);
    },
    async reload(door) {
      const first = new Chat(door);
      let second;
      await first.askUntil(SLOW_ANSWER, async () => {
        second = new Chat(door, { id: first.id });
        second.messages = first.messages.slice(0, 1);
        await second.resumeStream();
      });
      require(second.answer.text === first.answer.text, second.answer.text);
      require(second.answer.id === first.answer.id, second.answer.id);
      await second.requireStored();
      return told(second.answer);
    },
    async stop(door) {
      const chat = new Chat(door);
      await chat.askUntil(SLOW_ANSWER, async () => {
        const stopped = await chat.call("POST", `${new URL(door.api).pathname}/${chat.id}/stop`);
        require(stopped.status === "stopped", stopped);
      });
      require(chat.answer.status === "stopped", chat.answer);
      await chat.requireStored();
      return told(chat.answer);
    },
    async leave(door) {
      const chat = new Chat(door);
      await chat.askUntil(SLOW_ANSWER, () => chat.stop());
      require(chat.status === "ready", "stop() of the client only disconnects");
      return null;
    },
    async again(door) {
      const chat = new Chat(door);
      const first = await chat.ask("/sim tokens=5");
      await chat.regenerate();
      require(chat.answer.id !== first.id && chat.messages.length === 2, chat.messages);
      await chat.requireStored();
      return told(first, chat.answer);
    },
    async edit(door) {
      const chat = new Chat(door);
      const first = await chat.ask("/sim tokens=5 One");
      const second = await chat.ask("/sim tokens=5 Two");
      const third = await chat.ask({ text: "/sim tokens=5 Three", messageId: chat.messages[0].id });
      require(chat.messages.length === 2, chat.messages);
      const [message] = await chat.stored();
      require(message.siblings.count === 2, message);
      await chat.requireStored();
      return told(first, second, third);
    },
    async list(door) {
      const first = new Chat(door);
      const answers = [await first.ask("/sim tokens=5 One")];
      const chat = new Chat(door, { id: answers[0].chat_id });
      chat.messages = (await first.stored()).map(({ n, role, content, task_id }) => ({
        id: task_id ?? String(n),
        role,
        parts: [{ type: "text", text: content }],
      }));
      answers.push(await chat.ask("/sim tokens=5 Two"));
      await chat.requireStored();
      answers.push(await chat.ask({ text: "/sim tokens=5 Three", messageId: chat.messages[0].id }));
      require(chat.messages.length === 2, chat.messages);
      await chat.requireStored();
      return told(...answers);
    },
    async image(door) {
      const chat = new Chat(door);
      const files = [{ type: "file", mediaType: "image/png", filename: "deer.png", url: PICTURE }];
      const answer = await chat.ask({ text: "What is it?", files }, { body: { model: VISION } });
      const kinds = (await chat.stored()).map((message) => message.type);
      require(kinds.join() === "image,text,text", kinds);
      return told(answer);
    },
    async broken(door) {
      const chat = new Chat(door);
      await chat.sendMessage({ text: FAIL });
      require(chat.refusal.code === "upstream_error" && chat.refusal.detail, chat.refusal);
      require(read(chat.messages.at(-1), "text"), "some text came first");
      return [];
    },
    async poor(door) {
      const chat = new Chat(door);
      await chat.sendMessage({ text: "Hello" });
      require(chat.refusal.code === "insufficient_credits", chat.refusal);
      return [];
    },
    async wrong_key(door) {
      const chat = new Chat(door, { token: "eyJhbGciOiJub25lIn0.e30." });
      await chat.sendMessage({ text: "Hello" });
      require(chat.refusal.code === "invalid_token", chat.refusal);
      return [];
    },
    async limited(door) {
      const chat = new Chat(door);
      const answers = [];
      const ask = async () => {
        await chat.sendMessage({ text: "/sim tokens=3 delay=0" });
        if (chat.status === "ready") answers.push(chat.answer);
        return chat.status === "ready";
      };
      for (let n = 0; n < MOST_ASKS && (await ask()); n++);
      require(chat.refusal.code === "too_many_answers", chat.refusal);
      const give_up_at = Date.now() + 60 * SECOND;
      while (!(await ask())) {
        require(Date.now() < give_up_at, "refused for ever");
        await pause(SECOND);
      }
      return told(...answers);
    },
  });

  /** A fetch whose first stream breaks off after some text. */
  function cutOnce() {
    let cut = false;
    return async (...request) => {
      const response = await fetch(...request);
      if (cut) return response;
      cut = true;
      let seen = "";
      const decoder = new TextDecoder();
      const breaking = new TransformStream({
        transform(piece, controller) {
          controller.enqueue(piece);
          seen += decoder.decode(piece, { stream: true });
          if (seen.split("text-delta").length > 8) controller.error(new TypeError("network error"));
        },
      });
      return new Response(response.body.pipeThrough(breaking), response);
    };
  }
}

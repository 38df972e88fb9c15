// The AI SDK with @ai-sdk/openai-compatible, in the cases of cases.mjs. with_ai6.mjs and with_ai7.mjs give it their packages.

import { CALL_TOOL, CITY, DEAR_MODEL, FAIL, MODEL, MOST_ASKS, PIXEL, SCHEMA, SLOW, THINK, VISION, refused, require, run } from "./cases.mjs";

export function runWith({ generateText, streamText, generateObject, jsonSchema, tool }, createOpenAICompatible) {
  const model = (door, name = MODEL) =>
    createOpenAICompatible({ name: "aideer", ...door, includeUsage: true, supportsStructuredOutputs: true })(name);
  const told = (usage) => [usage.inputTokens, usage.outputTokens];
  const quiet = { maxRetries: 0, onError() {} };
  const ask = (door, prompt, more = {}) => generateText({ model: model(door), prompt, maxRetries: 0, ...more });

  run({
    async ask(door) {
      const answer = await ask(door, "Hello");
      require(answer.text && ["stop", "length"].includes(answer.finishReason), answer.text);
      return [told(answer.usage)];
    },
    async stream(door) {
      const providerOptions = { aideer: { enable_thinking: true } };
      const answer = streamText({ model: model(door), prompt: THINK, providerOptions, ...quiet });
      require((await answer.text) && (await answer.finishReason) === "stop", await answer.text);
      require(await answer.reasoningText, "reasoning");
      return [told(await answer.usage)];
    },
    async leave(door) {
      const abort = new AbortController();
      const prompt = "/sim tokens=20 delay=50";
      const answer = streamText({ model: model(door), prompt, abortSignal: abort.signal, ...quiet });
      for await (const text of answer.textStream) if (text) break;
      abort.abort();
      return null;
    },
    async tools(door) {
      const execute = async ({ city }) => (city === "Peking 鹿" ? "Rain." : "Nothing.");
      const get_weather = tool({ description: "The weather.", inputSchema: jsonSchema(CITY), execute });
      const stopWhen = ({ steps }) => steps.length === 2;
      const answer = await ask(door, CALL_TOOL, { tools: { get_weather }, stopWhen });
      require(answer.steps.length === 2 && answer.text, answer.text);
      require(answer.steps[0].toolResults[0].output === "Rain.", answer.steps[0].toolResults);
      return answer.steps.map((step) => told(step.usage));
    },
    async image(door) {
      const content = [
        { type: "text", text: "What is it?" },
        { type: "image", image: PIXEL },
      ];
      const messages = [{ role: "user", content }];
      const answer = await generateText({ model: model(door, VISION), messages, maxRetries: 0 });
      require(answer.text, "text");
      return [told(answer.usage)];
    },
    async json(door) {
      const schema = jsonSchema(SCHEMA);
      const answer = await generateObject({ model: model(door), prompt: "Count.", schema, maxRetries: 0 });
      require(answer.object.n === 1, answer.object);
      return [told(answer.usage)];
    },
    async broken(door) {
      const parts = [];
      for await (const part of streamText({ model: model(door), prompt: FAIL, ...quiet }).fullStream) parts.push(part);
      const error = parts.find((part) => part.type === "error");
      require(parts.some((part) => part.type === "text-delta"), "some text came first");
      require(error && JSON.stringify(error.error?.message ?? error.error).includes("provider failed"), error ?? "no error");
      return [];
    },
    async poor(door) {
      const error = await refused(() => ask(door, "Hello", { model: model(door, DEAR_MODEL), maxRetries: 2 }));
      require(error.statusCode === 402 && error.message.includes("credits"), String(error));
      return [];
    },
    async wrong_key(door) {
      const error = await refused(() => ask({ ...door, apiKey: "sk-wrong" }, "Hello"));
      require(error.statusCode === 401, String(error));
      return [];
    },
    async limited(door) {
      const prompt = "/sim tokens=3 delay=0";
      const answers = [];
      const error = await refused(async () => {
        for (let n = 0; n < MOST_ASKS; n++) answers.push(told((await ask(door, prompt)).usage));
      });
      require(error.statusCode === 429, String(error));
      return [...answers, told((await ask(door, prompt, { maxRetries: 3 })).usage)];
    },
    async slow(door) {
      return [told((await ask(door, SLOW, { maxOutputTokens: 90 })).usage)];
    },
  });
}

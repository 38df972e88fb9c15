// openai (npm), in the cases of cases.mjs.

import OpenAI from "openai";
import { CALL_TOOL, CITY, DEAR_MODEL, FAIL, MODEL, MOST_ASKS, PIXEL, SCHEMA, SLOW, THINK, VISION, refused, require, run } from "./cases.mjs";

const TOOL = { type: "function", function: { name: "get_weather", description: "The weather.", parameters: CITY } };
const connect = (door, maxRetries = 0) => new OpenAI({ ...door, maxRetries, timeout: 300_000 });
const say = (content) => [{ role: "user", content }];
const told = (answer) => [answer.usage.prompt_tokens, answer.usage.completion_tokens];

run({
  async models(door) {
    const listed = [];
    for await (const model of connect(door).models.list()) listed.push(model.id);
    require(listed.includes(MODEL), listed);
    return [];
  },
  async ask(door) {
    const answer = await connect(door).chat.completions.create({ model: MODEL, messages: say("Hello") });
    require(answer.choices[0].message.content, answer);
    return [told(answer)];
  },
  async stream(door) {
    let text = "";
    let reasoning = "";
    let last;
    const chunks = await connect(door).chat.completions.create({
      model: MODEL,
      messages: say(THINK),
      stream: true,
      stream_options: { include_usage: true },
      enable_thinking: true,
    });
    for await (const chunk of chunks) {
      text += chunk.choices[0]?.delta.content ?? "";
      reasoning += chunk.choices[0]?.delta.reasoning_content ?? "";
      last = chunk;
    }
    require(text && reasoning, "text and reasoning");
    return [told(last)];
  },
  async leave(door) {
    const messages = say("/sim tokens=20 delay=50");
    const chunks = await connect(door).chat.completions.create({ model: MODEL, messages, stream: true });
    for await (const chunk of chunks) if (chunk.choices[0]?.delta.content) break;
    return null;
  },
  async tools(door) {
    const client = connect(door);
    const messages = say(CALL_TOOL);
    const options = { include_usage: true };
    const events = client.chat.completions.stream({ model: MODEL, messages, tools: [TOOL], stream_options: options });
    const first = await events.finalChatCompletion();
    const { message, finish_reason } = first.choices[0];
    require(finish_reason === "tool_calls", first);
    require(JSON.parse(message.tool_calls[0].function.arguments).city === "Peking 鹿", first);
    messages.push(message, { role: "tool", tool_call_id: message.tool_calls[0].id, content: "Rain." });
    const second = await client.chat.completions.create({ model: MODEL, messages, tools: [TOOL] });
    require(second.choices[0].message.content, second);
    return [told(first), told(second)];
  },
  async image(door) {
    const content = [
      { type: "text", text: "What is it?" },
      { type: "image_url", image_url: { url: PIXEL } },
    ];
    const answer = await connect(door).chat.completions.create({ model: VISION, messages: [{ role: "user", content }] });
    require(answer.choices[0].message.content, answer);
    return [told(answer)];
  },
  async json(door) {
    const response_format = { type: "json_schema", json_schema: { name: "count", schema: SCHEMA, strict: true } };
    const answer = await connect(door).chat.completions.create({ model: MODEL, messages: say("Count."), response_format });
    require(JSON.parse(answer.choices[0].message.content).n === 1, answer);
    return [told(answer)];
  },
  async broken(door) {
    let text = "";
    const error = await refused(async () => {
      const chunks = await connect(door).chat.completions.create({ model: MODEL, messages: say(FAIL), stream: true });
      for await (const chunk of chunks) text += chunk.choices[0]?.delta.content ?? "";
    });
    require(text && error.code === "upstream_error", String(error));
    return [];
  },
  async poor(door) {
    const messages = say("Hello");
    const error = await refused(() => connect(door, 2).chat.completions.create({ model: DEAR_MODEL, messages }));
    require(error.status === 402 && error.code === "insufficient_credits", String(error));
    return [];
  },
  async wrong_key(door) {
    const error = await refused(() => connect({ ...door, apiKey: "sk-wrong" }).models.list());
    require(error instanceof OpenAI.AuthenticationError, String(error));
    return [];
  },
  async limited(door) {
    const body = { model: MODEL, messages: say("/sim tokens=3 delay=0") };
    const answers = [];
    const error = await refused(async () => {
      for (let n = 0; n < MOST_ASKS; n++) answers.push(told(await connect(door).chat.completions.create(body)));
    });
    require(error instanceof OpenAI.RateLimitError, String(error));
    return [...answers, told(await connect(door, 2).chat.completions.create(body))];
  },
  async slow(door) {
    return [told(await connect(door).chat.completions.create({ model: MODEL, messages: say(SLOW), max_tokens: 90 }))];
  },
});

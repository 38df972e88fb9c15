/** What a person enters into other programs: snippets of code with the address, the key and the model filled in. */

/** @typedef {{base: string, key: string, model: string, question: string}} Values `base` ends in /v1 */
/** @typedef {{name: string, label: string, language: string, install?: string, write: (values: Values) => string}} Snippet */

/** What stands in place of a key that is not shown. */
export const PLACEHOLDER = "YOUR_API_KEY";

/** A text as JavaScript, Python and JSON write it. */
const quote = JSON.stringify;
/** A text as a POSIX shell reads it, whatever is in it. @param {string} text */
const shell = (text) => `'${text.replace(/'/g, "'\\''")}'`;

/** The address that programs want which add /v1 by themselves. @param {string} base */
export const hostOf = (base) => base.replace(/\/v1$/, "");

/** @param {Values} values */
const python = ({ base, key, model, question }) => `from openai import OpenAI

client = OpenAI(
    base_url=${quote(base)},
    api_key=${quote(key)},
)
answer = client.chat.completions.create(
    model=${quote(model)},
    messages=[{"role": "user", "content": ${quote(question)}}],
)
print(answer.choices[0].message.content)
`;

/** @param {Values} values */
const node = ({ base, key, model, question }) => `import OpenAI from "openai";

const client = new OpenAI({
  baseURL: ${quote(base)},
  apiKey: ${quote(key)},
});
const answer = await client.chat.completions.create({
  model: ${quote(model)},
  messages: [{ role: "user", content: ${quote(question)} }],
});
console.log(answer.choices[0].message.content);
`;

/** @param {Values} values */
const aiSdk = ({ base, key, model, question }) => `import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";

const aideer = createOpenAICompatible({
  name: "aideer",
  baseURL: ${quote(base)},
  apiKey: ${quote(key)},
  includeUsage: true,
});
const { textStream } = streamText({
  model: aideer(${quote(model)}),
  prompt: ${quote(question)},
});
for await (const text of textStream) process.stdout.write(text);
`;

/** @param {Values} values */
const curl = ({ base, key, model, question }) => `curl -sSN ${shell(`${base}/chat/completions`)} \\
  -H ${shell(`Authorization: Bearer ${key}`)} \\
  -H 'Content-Type: application/json' \\
  -d ${shell(JSON.stringify({ model, stream: true, messages: [{ role: "user", content: question }] }))}
`;

/** @type {Snippet[]} */
export const SNIPPETS = [
  { name: "python", label: "Python", language: "python", install: "pip install openai", write: python },
  { name: "node", label: "JavaScript", language: "javascript", install: "npm install openai", write: node },
  { name: "ai", label: "AI SDK", language: "javascript", install: "npm install ai @ai-sdk/openai-compatible", write: aiSdk },
  { name: "curl", label: "curl", language: "bash", write: curl },
];

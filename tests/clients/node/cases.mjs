// What each JavaScript client does, as cases.py says for those in Python. A case returns [[input, output], …], null, or throws.

export const MODEL = "qwen-plus";
export const DEAR_MODEL = "qwen-max";
export const MOST_ASKS = 20;
export const VISION = "qwen3.5-plus";
export const SLOW = "/sim tokens=90 delay=1000";
export const CALL_TOOL = "/sim tool=get_weather Peking 鹿";
export const FAIL = "/sim tokens=9 fail=internal_mid at=4";
export const THINK = "/sim tokens=12 think=5 What is a deer? 🦌";
export const PIXEL =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
export const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
export const SCHEMA = {
  type: "object",
  properties: { n: { type: "integer" } },
  required: ["n"],
  additionalProperties: false,
};

export function require(condition, what) {
  if (!condition) throw new Error(typeof what === "string" ? what : JSON.stringify(what));
}

/** Expect a refusal, and return its error. */
export async function refused(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("not refused");
}

/**
 * Do the cases that the arguments name (base URL, the slow case's, case=key …), and print each result as a line of JSON.
 * A client of /ui/chat has a preset beside the token, case=token,preset.
 */
export async function run(cases) {
  const [baseURL, slowURL, ...pairs] = process.argv.slice(2);
  const keys = new Map(pairs.map((pair) => pair.split("=")));
  const slow = keys.has("slow") ? perform(cases, "slow", { baseURL: slowURL, apiKey: keys.get("slow") }) : null;
  keys.delete("slow");
  for (const [name, key] of keys) {
    const [token, preset] = key.split(",");
    const door = preset ? { api: baseURL, token, preset } : { baseURL, apiKey: key };
    await perform(cases, name, door);
  }
  await slow;
  process.exit(0);
}

async function perform(cases, name, door) {
  const result = { case: name, told: null, error: null };
  if (!(name in cases)) result.error = "not offered";
  else
    try {
      result.told = await cases[name](door);
    } catch (error) {
      result.error = String(error.stack ?? error);
    }
  console.log(JSON.stringify(result));
}

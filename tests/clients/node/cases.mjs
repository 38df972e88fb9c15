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

const PAGE = "https://app.example";
const SAFE = new Set(["accept", "accept-language", "content-language", "range"]);

/**
 * A fetch that asks before each request whether a page of another origin may send it, as a browser does (CORS preflight). Browsers
 * that let a page set User-Agent ask for it too.
 */
function asPage(send) {
  return async (input, init) => {
    const request = input instanceof Request ? input : null;
    const headers = new Headers(init?.headers ?? request?.headers);
    const answer = await send(request?.url ?? input, {
      method: "OPTIONS",
      headers: {
        Origin: PAGE,
        "Access-Control-Request-Method": init?.method ?? request?.method ?? "GET",
        "Access-Control-Request-Headers": [...headers.keys()].filter((name) => !SAFE.has(name)).sort().join(","),
      },
    });
    const text = await answer.text();
    require(answer.ok && answer.headers.get("access-control-allow-origin"), `a page may not send ${[...headers.keys()]}: ${text}`);
    return send(input, init);
  };
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
  globalThis.fetch = asPage(globalThis.fetch);
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

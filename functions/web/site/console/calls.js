/**
 * The console's calls of the API: with the administrator's reason, page by page, and with the password where the API asks for it.
 */
import { ApiError, request } from "../shared/session.js";
import { signal, useCallback, useEffect, useRef, useState } from "../shared/ui.js";

/** Why the administrator looks and acts. Each call sends it as X-Reason, for the audit trail. It is forgotten with the page. */
export const reason = signal("");

/**
 * Call the API.
 * @param {string} method
 * @param {string} path below /api/v1
 * @param {{body?: any, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 */
export function ask(method, path, options = {}) {
  const headers = { ...options.headers };
  if (reason.value.trim()) headers["X-Reason"] = encodeURIComponent(reason.value.trim());
  return request(method, path, { ...options, headers });
}

/** @param {string} path @param {AbortSignal} [signal] */
export async function read(path, signal) {
  return (await ask("GET", path, { signal })).data;
}

/** Return a new Idempotency-Key: a repetition with the same one has no second effect. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("-");
}

/**
 * Add a query to a path. Empty values are left out.
 * @param {string} path
 * @param {Record<string, any>} query
 */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return search ? `${path}${path.includes("?") ? "&" : "?"}${search}` : path;
}

/**
 * Load something when the component appears, and again when `key` changes or `reload` is called. A later load replaces an earlier one.
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} load
 * @param {string} [key]
 * @returns {{data: T|undefined, error: any, loading: boolean, reload: () => void}}
 */
export function useLoad(load, key = "") {
  const [state, setState] = useState(/** @type {{key: string, data: T|undefined, error: any, loading: boolean}} */ ({ key, data: undefined, error: null, loading: true }));
  const [turn, setTurn] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    const gone = new AbortController();
    setState((before) => ({ key, data: before.key === key ? before.data : undefined, error: null, loading: true }));
    latest.current(gone.signal).then(
      (data) => { if (!gone.signal.aborted) setState({ key, data, error: null, loading: false }); },
      (error) => { if (!gone.signal.aborted) setState({ key, data: undefined, error, loading: false }); },
    );
    return () => gone.abort();
  }, [key, turn]);
  const reload = useCallback(() => setTurn((before) => before + 1), []);
  return { ...state, reload };
}

/**
 * Read a list page by page. A page of the API may be empty although more follow, so this reads on until it has something to show.
 * @param {string} path
 * @param {(data: any) => any[]} [pick] the items of an answer that is no array
 */
export function useList(path, pick = (data) => data) {
  const [state, setState] = useState({ path, items: /** @type {any[]} */ ([]), cursor: /** @type {string|null} */ (null), data: /** @type {any} */ (null), error: /** @type {any} */ (null), loading: true });
  const [turn, setTurn] = useState(0);
  const gone = useRef(new AbortController());
  const pickLatest = useRef(pick);
  pickLatest.current = pick;

  const load = useCallback(async (/** @type {string|null} */ cursor, /** @type {any[]} */ known, /** @type {AbortSignal} */ stop) => {
    setState((before) => ({ ...before, path, items: known, error: null, loading: true }));
    try {
      /** @type {any[]} */
      let found = [];
      let data = null;
      do {
        const answer = await ask("GET", withQuery(path, { cursor }), { signal: stop });
        data = answer.data;
        found = [...found, ...pickLatest.current(data)];
        cursor = answer.headers.get("X-Next-Cursor");
      } while (cursor && !found.length);
      if (!stop.aborted) setState({ path, items: [...known, ...found], cursor, data, error: null, loading: false });
    } catch (error) {
      if (!stop.aborted) setState((before) => ({ ...before, error, loading: false }));
    }
  }, [path]);

  useEffect(() => {
    gone.current = new AbortController();
    load(null, [], gone.current.signal);
    return () => gone.current.abort();
  }, [path, turn]);

  const fresh = state.path === path ? state : { ...state, items: [], cursor: null, data: null, loading: true };
  return {
    items: fresh.items,
    data: fresh.data,
    error: fresh.error,
    loading: fresh.loading,
    hasMore: fresh.cursor !== null,
    more: () => load(fresh.cursor, fresh.items, gone.current.signal),
    reload: () => setTurn((before) => before + 1),
  };
}

/**
 * Hold what is typed into a form. It begins with `from`, and begins anew when `from` changes: a link or the way back changes the address.
 * This is done while drawing, because an effect runs after the page is shown, and would drop what was typed since.
 * @template T
 * @param {T} from a string, or a flat object
 * @returns {[T, (change: T|((before: T) => T)) => void]}
 */
export function useForm(from) {
  const key = JSON.stringify(from);
  const [state, setState] = useState({ key, value: from });
  if (state.key !== key) setState({ key, value: from });
  const set = (/** @type {any} */ change) => setState((before) => ({ ...before, value: typeof change === "function" ? change(before.value) : change }));
  return [state.key === key ? state.value : from, set];
}

/** Whether the API wants the password, because the sign-in is more than ten minutes old. @param {any} error */
export const wantsPassword = (error) => error instanceof ApiError && error.code === "fresh_sign_in_required";

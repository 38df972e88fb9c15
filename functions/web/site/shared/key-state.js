/** What an API key may do now. */

/**
 * @param {{expires_at: string|null, disabled: boolean, credit_limit: number|null, credits_used: number}} key
 * @returns {{name: "expired"|"paused"|"used_up"|"active", kind: string}} its state, and the kind of its badge
 */
export function stateOf(key) {
  if (key.expires_at && new Date(key.expires_at) <= new Date()) return { name: "expired", kind: "danger" };
  if (key.disabled) return { name: "paused", kind: "warning" };
  if (key.credit_limit !== null && key.credits_used >= key.credit_limit) return { name: "used_up", kind: "danger" };
  return { name: "active", kind: "accent" };
}

/** What a person has written or attached and not sent yet. */
import { signal } from "../shared/ui.js";

/** @typedef {{key: number, name: string, size: number, kind: "image"|"document", state: "sending"|"ready"|"failed", problem: string,
 *   id?: string, content?: string, preview?: string, tokens?: number, upload?: any}} Attachment */

/** The texts by chat; a chat that has no id yet is "new". @type {Map<string, string>} */
export const drafts = new Map();
/** @type {import("../vendor/signals.js").Signal<Attachment[]>} */
export const attachments = signal([]);

/** The new chat has its id: what was written since its first question goes on there. @param {string} id */
export function moveDraft(id) {
  const text = drafts.get("new");
  if (text) drafts.set(id, text);
  drafts.delete("new");
}

/** Forget all, so that the next user of this page does not see it. */
export function forgetDrafts() {
  drafts.clear();
  attachments.value = [];
}

// What the browser keeps: the tab's token, the person's choices, and changes that are not saved yet.

const PREFIX = "sigmoid_vit.";
const memory = new Map(); // where the browser keeps nothing: denied in some frames, or full

/** The tab's ("session") or the browser's ("local") storage, or memory where they fail. */
export function storage(kind) {
  const native = () => window[`${kind}Storage`];
  const attempt = (action, otherwise) => {
    try {
      return action();
    } catch {
      return otherwise;
    }
  };
  return {
    get: (key) => memory.get(kind + key) ?? attempt(() => native().getItem(PREFIX + key), null),
    set(key, text) {
      memory.delete(kind + key);
      if (!attempt(() => (native().setItem(PREFIX + key, text), true))) memory.set(kind + key, text);
    },
    remove: (key) => attempt(() => native().removeItem(PREFIX + key)),
    keys: () => attempt(() => Object.keys(native()), []).map((key) => key.slice(PREFIX.length)),
  };
}

/** Where this tab's unsaved changes lie, which takes over those of closed tabs: a living one holds a lock. */
export async function openDrafts(work) {
  const local = storage("local");
  const key = `drafts.${work}.${Math.random()}`;
  const held = ((await navigator.locks?.query())?.held ?? []).map((lock) => lock.name);
  navigator.locks?.request(key, () => new Promise(() => {})); // until the tab is closed; not without https
  const kept = local.keys().filter((name) => name.startsWith(`drafts.${work}.`) && !held.includes(name));
  local.set(key, JSON.stringify(kept.flatMap((name) => JSON.parse(local.get(name)))));
  for (const name of kept) local.remove(name);
  return { read: () => local.get(key), write: (text) => local.set(key, text) };
}

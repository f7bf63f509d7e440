// One edit for many images: what they have now, the saves, and taking all of them back.

import { get, post } from "../base/api.js";
import { randomId } from "../numbers/saver.js";
import { author, noteSaved } from "./changes.js";
import * as queue from "./queue.js";
import * as saving from "./saving.js";
import { state } from "./state.js";

const MOST = 200; // images at a time, as the server takes them

/** The revision of the open image's edit, if it has cells and all of it is saved; else undefined. */
export function savedEdit() {
  const { info, grid, undo } = state;
  return grid?.count && !saving.waiting(info.id) ? undo.newest : undefined;
}

/**
 * The first images of the list but the open one: `items` {k, id, status, revision and author of the edit, or
 * null}, and how many are `left`.
 */
export async function candidates() {
  const images = queue.listed().filter((k) => k !== state.k);
  const found = await get("newest", { images: images.slice(0, MOST).join() });
  return { items: found.images, left: images.length - found.images.length };
}

/**
 * How the edit, a revision of image k, is saved on images: a function that may be called again without a
 * response; it resolves to {saved, refused}, with the `item` of each.
 */
export function applier(k, revision, items) {
  const params = { author: author(), client_id: randomId() }; // the same if it is sent again
  const to = items.map((item) => ({ k: item.k, base: item.revision }));
  return async () => {
    const { saved, refused } = await post("apply", params, { from: { k, revision }, to });
    const withItems = (results) => results.map((each) => ({ ...each, item: itemOf(items, each.k) }));
    for (const { item, revision: newest, status } of withItems(saved)) {
      noteSaved(item.id, item.revision, newest, newest);
      queue.setStatus(item.id, status);
    }
    return { saved: withItems(saved), refused: withItems(refused) };
  };
}

const itemOf = (items, k) => items.find((item) => item.k === k);

/** Give each image back what it had; takes what is done off `saved`, so that it can be called again. */
export async function takeBack(saved) {
  while (saved.length) {
    const [{ k, item, revision: base, client_id = randomId() }] = saved;
    saved[0].client_id = client_id;
    const [kind, target] = item.revision ? ["restore", item.revision] : ["delete", ""];
    const facts = { author: author(), base, client_id, revision: target };
    const { revision, status } = await post(`images/${k}/${kind}`, facts, {});
    noteSaved(item.id, base, revision, item.revision);
    queue.setStatus(item.id, status);
    saved.shift();
  }
}

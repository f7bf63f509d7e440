// The edits that were saved last, so that another image gets the same cells and values.

import { storage } from "../base/storage.js";
import { Grid } from "../numbers/grid.js";
import { state } from "./state.js";

const KEPT = 2; // images: the open one may be the newest
const key = () => `repeat.${state.session.work}`;
const kept = () => JSON.parse(storage("local").get(key()) ?? "[]"); // [{id, grid: its bytes}], newest first

/** Keep the edit of an image as it was saved now; an empty one is none. */
export function keepEdit(id, grid) {
  const others = kept().filter((edit) => edit.id !== id);
  const edits = grid.count ? [{ id, grid: Array.from(grid.bytes) }, ...others] : others;
  storage("local").set(key(), JSON.stringify(edits.slice(0, KEPT)));
}

/** The last edit of an image that is not this one, or null. */
export function lastEditBut(id) {
  const edit = kept().find((each) => each.id !== id);
  return edit ? new Grid(state.session.grid, Uint8Array.from(edit.grid).buffer) : null;
}

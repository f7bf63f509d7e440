// The open image and the tools. Every part of the page reads `state`; it changes by `set` and `show` alone.

import { emit } from "../base/events.js";

const values = {
  session: null, // the run, its network and the part (api/session)
  k: null, // number of the image that is open, or is being opened
  info: null, // the server's facts about the image (api/images/k)
  picture: null, // its pixels, as a bitmap
  closeUp: null, // a region of it by its own pixels, see closeUpOf, and its `bitmap`
  grid: null, // its edit, a Grid; null until it is loaded, and until then the rest is old
  scope: null, // of the edit, all of it text: {layers, heads, queries}
  note: "",
  undo: null, // its UndoList
  stroke: null, // the Stroke that is being painted
  query: "cls", // whose attention is shown: the class token's, or the number of a patch as text
  own: null, // the network's sigmoid attention, where strokes start: float32 per cell
  shown: null, // the map that is drawn: that one, rollout or the decision map
  asked: null, // which one it is: {view, layer, head, explained, against}, as the pickers say it
  scale: null, // the range of its values: {low, high, isSigned}
  display: {}, // {fixed, lines, mask, brightness, contrast}, see display.js
  outline: null, // of the image's mask: x, y, x, y of each line, as shares of its sides; null if not fetched
  isExact: true, // false for a decision map that is estimated
  top: null, // the prediction: [{class, p, before}], most probable first, and the first class before the edit
  brush: { tool: "set", target: 0, size: 1, softness: 0 }, // see Stroke; also "view", "inside", "outside"
  polygon: [], // its corners so far
  point: null, // where the pointer is, in cells; null outside the canvas
  cursor: null, // the middle of the cell that the arrow keys chose; null without one
};

export const state = new Proxy(values, { set: () => false }); // to read: writing to it is an error
export const set = (facts) => Object.assign(values, facts);

/** Change the state, and let it be shown: "changed", "grid" or "predicted". */
export function show(facts = {}, event = "changed") {
  set(facts);
  if (values.grid) emit(event);
}

// What is fetched of an image, and the message above it that says why that failed.

import { errorText, get } from "../base/api.js";
import { $, t, valuesOf } from "../base/dom.js";
import { Grid } from "../numbers/grid.js";
import * as queue from "./queue.js";
import { state } from "./state.js";

const NARROW = 0.01; // of a scale: less would show noise

export const say = (text) => Object.assign($("stage-message"), { textContent: text, hidden: !text });

/** What the action returns; undefined if it fails, and then the message says why, or if it comes too late. */
export async function attempt(action) {
  const { k } = state;
  say("");
  const found = await action(k).catch((error) => {
    if (k === state.k) say(t("not_loaded", { error: errorText(error, queue.nameOf(k)) }));
  });
  return k === state.k ? found : undefined;
}

export const fetchPicture = async (k) => createImageBitmap(await get(`images/${k}/picture`, {}, "blob"));

/** The grid of a revision, empty if there is none. */
export async function fetchGrid(k, revision) {
  const bytes = revision ? await get(`images/${k}/edit`, { revision }, "arrayBuffer") : undefined;
  return new Grid(state.session.grid, bytes);
}

/** The map as chosen: `shown` with its `scale`, and `own`, the sigmoid attention, where strokes start. */
export async function fetchMaps(k, isExact = state.session.decision_at_once) {
  const { view, explained, ...params } = { ...valuesOf($("map-choice")), query: state.query };
  const fetchMap = async (kind, given) =>
    new Float32Array(await get(`images/${k}/${kind}`, given, "arrayBuffer"));
  const attention = (shownAs) => fetchMap("attention", { ...params, view: shownAs });
  const decision = () => fetchMap("decision", { explained, exact: isExact ? "yes" : "no" });
  const isSigned = view === "decision";
  const other = view === "sigmoid" ? [] : [isSigned ? decision() : attention(view)];
  const [own, shown = own] = await Promise.all([attention("sigmoid"), ...other]);
  return { own, shown, scale: scaleOf(shown, isSigned), isExact: isExact || !isSigned };
}

/** From the smallest to the largest value, at least NARROW apart; of a signed map, the same around 0. */
function scaleOf(values, isSigned) {
  if (isSigned) {
    const high = Math.max(NARROW, ...values.map(Math.abs));
    return { low: -high, high, isSigned };
  }
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return { low, high: Math.max(high, low + NARROW), isSigned };
}

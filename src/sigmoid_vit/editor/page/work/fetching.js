// What is fetched of an image, and the message above it that says why that failed.

import { errorText, get } from "../base/api.js";
import { $, t, valuesOf } from "../base/dom.js";
import { Grid } from "../numbers/grid.js";
import * as queue from "./queue.js";
import { state } from "./state.js";

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

/** The network's own attention as chosen: `own`, where strokes start, and `shown`, which may be rollout. */
export async function fetchMaps(k) {
  const params = { ...valuesOf($("map-choice")), query: state.query };
  const fetchMap = async (view) =>
    new Float32Array(await get(`images/${k}/attention`, { ...params, view }, "arrayBuffer"));
  const [own, shown = own] = await Promise.all([...new Set(["sigmoid", params.view])].map(fetchMap));
  return { own, shown };
}

// What the network makes of the open image: its attention, and its prediction under the edit.

import { errorText, post } from "../base/api.js";
import { $, t } from "../base/dom.js";
import { attempt, fetchMaps, isDecision } from "./fetching.js";
import { set, show, state } from "./state.js";

let newestMap = null;
let refining = new AbortController(); // of the request for an exact map
let isPredicting = false;
let prediction = null; // resolves when it is there

/** Layer, head, map or query changed. */
export async function changeMap(query = state.query) {
  const request = (newestMap = Symbol("map"));
  if (query !== state.query && isDecision($("map").value)) $("map").value = "sigmoid"; // it has no query
  set({ query });
  stopRefining();
  $("map-shown").ariaBusy = true;
  const maps = await attempt(fetchMaps);
  if (request !== newestMap) return;
  $("map-shown").ariaBusy = false;
  if (!maps) return;
  show(maps);
  await refineMap();
}

/** Nobody waits for the exact map any more: let the server compute what is asked for now. */
export function stopRefining() {
  refining.abort();
  refining = new AbortController();
}

/** Where the decision map is an estimate, show the exact one as soon as it is there. */
export async function refineMap() {
  if (state.isExact) return;
  const request = (newestMap = Symbol("map"));
  const { signal } = refining;
  const unlessStopped = (error) => signal.aborted || Promise.reject(error);
  const fetchExact = (k) => fetchMaps(k, true, state.query, [signal]).catch(unlessStopped);
  const maps = await attempt(fetchExact);
  if (signal.aborted) return;
  if (maps && request === newestMap) show(maps);
}

/** Resolves when no prediction is awaited. */
export const settled = () => prediction;

/** Ask for the prediction, one request at a time: what changes meanwhile is asked for after the response. */
export function predict() {
  $("stale").textContent = t("stale");
  if (!isPredicting) prediction = askUntilSettled();
}

async function askUntilSettled() {
  isPredicting = true;
  const question = () => [state.k, JSON.stringify(state.scope), state.grid?.bytes].join();
  for (let asked; state.grid && asked !== question();) {
    asked = question(); // the end of a stroke asks nothing new
    const { k, grid, scope } = state;
    const { top, error } = await post(`images/${k}/predict`, scope, grid.bytes).catch((e) => ({ error: e }));
    if (asked !== question()) continue;
    $("stale").textContent = error ? t("prediction_failed", { error: errorText(error) }) : "";
    show(error ? {} : { top }, "predicted");
  }
  isPredicting = false;
}

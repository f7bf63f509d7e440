// What is fetched of an image, and the message above it that says why that failed.

import { errorText, failure, get } from "../base/api.js";
import { $, t, valuesOf } from "../base/dom.js";
import { Grid } from "../numbers/grid.js";
import { scaleOf } from "../numbers/scale.js";
import * as queue from "./queue.js";
import * as saving from "./saving.js";
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

/** Whose attention is shown of an image that is opened. */
export const firstQuery = () => (state.session.class_token ? "cls" : "0");

/**
 * Everything about an image that is opened; its grid is that of the change that still waits to be saved.
 * @param waiting see saving.waitingNow
 * @param turn(earlier) the next request is made once this resolves; without it, all are made at once
 */
export async function fetchImage(k, waiting, turn = () => null) {
  const described = get(`images/${k}`);
  await turn(described);
  const edit = described.then(({ id, edit: newest }) => {
    const change = waiting(id);
    return change ? saving.gridOf(change) : fetchGrid(k, newest?.revision);
  });
  await turn(edit);
  const map = fetchMaps(k, isExactAtOnce(), firstQuery());
  await turn(map);
  const [info, grid, maps, picture] = await Promise.all([described, edit, map, fetchPicture(k)]);
  return { info, grid, picture, top: info.top, ...maps };
}

/** A response about the network before Step 2, or why there is none. */
export const ofFirstStep = (response) =>
  response.catch((error) => {
    const { first_step: name } = state.session;
    throw error.status === 410 ? failure(410, { error: t("first_step_gone", { name }) }) : error;
  });

const isExactAtOnce = () => state.session.decision_at_once; // on small grids

/** Whether a map is a decision map: of the run's network, or of the one before Step 2. */
export const isDecision = (view) => ["decision", "first_step"].includes(view);

/**
 * The map as chosen: `shown` with its own `scale`, what was `asked`, and `own`, the sigmoid attention, where
 * strokes start.
 */
export async function fetchMaps(k, isExact = isExactAtOnce(), query = state.query, signals = []) {
  const asked = valuesOf($("map-choice"));
  const { view, explained, against, ...params } = { ...asked, query };
  const fetchMap = async (kind, given) =>
    new Float32Array(await get(`images/${k}/${kind}`, given, "arrayBuffer", signals));
  const attention = (shownAs) => fetchMap("attention", { ...params, view: shownAs });
  const network = view === "first_step" ? view : "own";
  const facts = { explained, against, network, exact: isExact ? "yes" : "no" };
  const decision = () => ofFirstStep(fetchMap("decision", facts));
  const isSigned = isDecision(view);
  const other = view === "sigmoid" ? [] : [isSigned ? decision() : attention(view)];
  const [own, shown = own] = await Promise.all([attention("sigmoid"), ...other]);
  return { own, shown, asked, scale: scaleOf(shown, isSigned), isExact: isExact || !isSigned };
}

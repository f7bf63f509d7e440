// Opening an image.

import { get } from "../base/api.js";
import { t } from "../base/dom.js";
import { on, emit } from "../base/events.js";
import { storage } from "../base/storage.js";
import { take } from "./ahead.js";
import { factsOf, undoOf } from "./changes.js";
import { attempt, fetchImage, firstQuery, say } from "./fetching.js";
import { predict, refineMap, stopRefining } from "./network.js";
import { endStroke, isPolygonOpen } from "./painting.js";
import * as queue from "./queue.js";
import * as saving from "./saving.js";
import { set, show, state } from "./state.js";
import * as team from "./team.js";

// what was painted stays on the screen
on("refused", ({ id, kind }) => id === state.info?.id && kind !== "edit" && open(state.k));

const RETRY_MS = 2000;
const trail = []; // the images that were open before, as numbers
let timer = null; // of an image that could not be loaded
let turn = Promise.resolve(); // of going on to the next image: each press counts
let choices = 0; // in the list: a later one counts more than going on

/** Open the image that the person chose in the list. */
export function choose(k) {
  if ((k === state.k && state.grid && !isOvertaken()) || isPolygonOpen()) return;
  choices++;
  open(k);
}

/** Whether somebody else has saved the open image since it was opened. */
export function isOvertaken() {
  const { revision = 0 } = queue.latestOf(state.k) ?? {};
  return state.grid && revision > (state.undo.newest ?? 0) && !saving.waiting(state.info.id);
}

/** @param isOnward whether "previous" shall lead back from it to the image that is open now */
export async function open(k, isOnward = true) {
  clearTimeout(timer);
  if (isOnward && state.k !== null && state.k !== k) trail.push(state.k);
  stopRefining();
  endStroke();
  set({ k, grid: null, polygon: [], cursor: null, query: firstQuery(), outline: null, closeUp: null });
  queue.choose(k);
  team.announce();
  storage("session").set("image", k);
  const waiting = saving.waitingNow(); // before the server is asked, lest a save come between
  const kept = take(k);
  if (!kept) emit("opening");
  const load = () => fetchImage(k, waiting).catch((error) => retry(k, error));
  const found = await attempt(async () => kept ?? (await load()));
  if (k !== state.k || state.grid) return;
  set(found ? { ...found, undo: undoOf(found.info, Boolean(waiting(found.info.id))) } : { picture: null });
  emit("opened", Boolean(found));
  if (!found) return;
  show(factsOf(found.info));
  if (kept) check(k, kept.info);
  predict();
  refineMap();
  emit("revised");
  const { of_another_image: other } = found.info;
  say(other ? t("of_another_image", other) : "");
}

/** Try again later to load an image without a response of the server. */
function retry(k, error) {
  if (error.status === 0) timer = setTimeout(reopen, RETRY_MS, k);
  throw error;
}

/** Open an image that could not be loaded once the server responds; until then the message stays. */
async function reopen(k) {
  const isMissing = () => k === state.k && !state.grid;
  const { status } = isMissing() ? await get(`images/${k}`).catch((error) => error) : {};
  if (!isMissing()) return;
  if (status === 0) timer = setTimeout(reopen, RETRY_MS, k);
  else await open(k);
}

/** Open an image anew that was fetched ahead and is another by now, unless the person works on it already. */
async function check(k, info) {
  const now = await get(`images/${k}`).catch((error) => error);
  if (k !== state.k || info !== state.info || isBegun() || now.status === 0) return;
  if (JSON.stringify(now) !== JSON.stringify(info)) await open(k);
}

/** Open the image that was open before this one or, where there is none, the one above it in the list. */
export async function openPrevious() {
  if (isPolygonOpen()) return;
  const k = trail.pop() ?? queue.above();
  if (k !== undefined) await open(k, false);
  else if (queue.isThere()) say(t("queue_start"));
}

/** Whether the person works on the open image. */
const isBegun = () => state.stroke || state.polygon.length || saving.waiting(state.info?.id);

/** Open the next image that is nobody else's. */
export function openNext() {
  const before = choices;
  return (turn = turn.then(() => goOn(before)));
}

async function goOn(before) {
  if (before !== choices || isPolygonOpen()) return;
  if (!queue.isThere()) await queue.load("first");
  const k = await team.reserve();
  if (before !== choices) return;
  if (k !== undefined) {
    open(k);
    team.announce().then(() => k === state.k && queue.isTaken(k) && !isBegun() && openNext());
  } else if (queue.isThere()) say(t(queue.candidates().length ? "queue_taken" : "queue_end"));
}

// Opening an image.

import { get } from "../base/api.js";
import { t } from "../base/dom.js";
import { on, emit } from "../base/events.js";
import { storage } from "../base/storage.js";
import { factsOf, undoOf } from "./changes.js";
import { attempt, fetchGrid, fetchMaps, fetchPicture, say } from "./fetching.js";
import { predict, refineMap } from "./network.js";
import { endStroke } from "./painting.js";
import * as queue from "./queue.js";
import * as saving from "./saving.js";
import { set, show, state } from "./state.js";

// what was painted stays on the screen
on("refused", ({ id, kind }) => id === state.info?.id && kind !== "edit" && open(state.k));

export async function open(k) {
  endStroke();
  set({ k, grid: null, polygon: [], cursor: null, query: state.session.class_token ? "cls" : "0" });
  queue.choose(k);
  storage("session").set("image", k);
  const waiting = saving.waitingNow(); // before the server is asked, lest a save come between
  const found = await attempt(() => load(k, waiting));
  if (k !== state.k || state.grid) return;
  set(found ?? { picture: null });
  emit("opened", Boolean(found));
  if (!found) return;
  show(factsOf(found.info));
  predict();
  refineMap();
  emit("revised");
  const { of_another_image: other } = found.info;
  say(other ? t("of_another_image", other) : "");
}

/** Everything about an image; its grid is that of the change that still waits to be saved, if one does. */
async function load(k, waiting) {
  const info = await get(`images/${k}`);
  const change = waiting(info.id);
  const grid = change ? saving.gridOf(change) : await fetchGrid(k, info.edit?.revision);
  const maps = await fetchMaps(k);
  const picture = await fetchPicture(k);
  return { info, grid, picture, undo: undoOf(info, Boolean(change)), top: info.top, ...maps };
}

export async function openNext() {
  const k = await queue.next();
  return k === null ? say(t("queue_end")) : open(k);
}

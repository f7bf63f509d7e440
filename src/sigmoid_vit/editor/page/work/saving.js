// How every change reaches the server; what becomes of it is an event.

import { failure, post } from "../base/api.js";
import { t } from "../base/dom.js";
import { emit } from "../base/events.js";
import { askWhile } from "../base/leaving.js";
import { Grid } from "../numbers/grid.js";
import { GONE, Saver } from "../numbers/saver.js";
import * as queue from "./queue.js";
import { state } from "./state.js";

let saver = null;

/** @param drafts see openDrafts */
export function start(drafts) {
  saver = new Saver(drafts, {
    send,
    saverChanged: (newest) => emit("saving", newest),
    acknowledged: (change, response) => emit("saved", change, response),
    refused: (change) => emit("refused", change),
  });
  askWhile(() => saver.pending.length > 0 || state.stroke !== null);
}

export const add = (change) => saver.add(change);
export const resume = () => saver.resume();
export const decide = () => saver.decide();
export const waiting = (id) => saver.waiting(id); // as the three above: see Saver

/** `waiting` as it is now, whatever is saved from here on. */
export function waitingNow() {
  const { pending } = saver;
  return (id) => saver.waiting(id, pending);
}

/** The grid of a change that waits to be saved. */
export const gridOf = ({ grid }) => new Grid(state.session.grid, Uint8Array.from(grid).buffer);

async function send({ kind, id, params, grid, reason, target, base, client_id }) {
  const k = await queue.find(id);
  if (k === undefined) throw failure(GONE, { error: t("gone", { id }) });
  const body = kind === "edit" ? Uint8Array.from(grid) : { reason };
  const facts = { ...params, base: base ?? "none", client_id, revision: target ?? "" };
  return post(`images/${k}/${kind}`, facts, body);
}

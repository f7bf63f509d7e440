// The edit of the open image: how it changes, and undo and redo. Every change is saved.

import { get } from "../base/api.js";
import { $ } from "../base/dom.js";
import { on, emit } from "../base/events.js";
import { storage } from "../base/storage.js";
import { Grid } from "../numbers/grid.js";
import { UndoList } from "../numbers/undo.js";
import { attempt, fetchGrid } from "./fetching.js";
import { predict } from "./network.js";
import * as queue from "./queue.js";
import { keepEdit } from "./repeating.js";
import * as saving from "./saving.js";
import { set, show, state } from "./state.js";

const snapshots = new Map(); // revision, or client id until it has one -> {grid, scope, note}
let chosenScope = null; // for the images without an edit; null: the session's
let steps = Promise.resolve(); // of undo and redo, one after the other

on("saved", acknowledged);

// what the browser keeps of every image: its undo list, and a note that waits for an edit
const local = storage("local");
const key = (what, id) => `${what}.${state.session.work}.${id}`;
const keptUndo = (id) => new UndoList(JSON.parse(local.get(key("undo", id)) ?? "{}"));
const keepUndo = (id, undo) => local.set(key("undo", id), JSON.stringify(undo));
const keptNote = (id) => local.get(key("note", id)) ?? "";
const keepNote = (id, note) => local.set(key("note", id), note);

/** The undo list of an image that is opened; a new one if somebody else has saved the image. */
export function undoOf({ id, newest, edit }, isWaiting) {
  const list = keptUndo(id);
  if (isWaiting || list.newest === newest) return list;
  return new UndoList({ entries: [edit?.revision ?? null], newest });
}

/** A scope as pickers and server take it, all of it text: "all", "last", "cls" or indices with commas. */
const scopeOf = (facts) =>
  Object.fromEntries(["layers", "heads", "queries"].map((name) => [name, String(facts[name] ?? "all")]));

/** Whether a revision says that a person left the image as it is; then its note is the reason. */
export const isLeft = (edit) => /^(skipped: |looked at, nothing to change)/.test(edit?.note ?? "");

/** The part of the state that follows from the server's facts about an image. */
export function factsOf(info) {
  const edit = saving.waiting(info.id)?.params ?? info.edit ?? {};
  const hasNote = !isLeft(edit) && info.status !== "propagated"; // that one is no person's
  const hasScope = "layers" in edit && !isLeft(edit);
  const scope = hasScope ? scopeOf(edit) : (chosenScope ?? scopeOf(state.session.scope));
  return { info, scope, note: keptNote(info.id) || (hasNote && edit.note) || "" };
}

/** Whether a note of the open image is in this browser only. */
export function isNoteWaiting() {
  const { info, grid } = state;
  const kept = grid ? keptNote(info.id) : "";
  return kept !== "" && kept !== info.edit?.note;
}

/** Keep a note that is being typed. */
export function typeNote(note) {
  if (!state.grid) return;
  keepNote(state.info.id, note.trim());
  show();
}

export const author = () => ($("author").validity.valid && $("author").value.trim()) || state.session.author;

/** Save a change of any `kind` the server takes: a state for undo unless it is a step of undo or redo. */
export function change(kind, facts = {}, isState = true) {
  if (!state.grid) return;
  const isLeaving = ["skip", "unchanged"].includes(kind);
  if (kind === "delete" || isLeaving) set({ grid: new Grid(state.session.grid) });
  if (isLeaving) set({ polygon: [] });
  const { grid, scope, note, undo, info } = state;
  const params = { author: author(), ...(["edit", "accept"].includes(kind) && { ...scope, note }) };
  if (kind === "unchanged") params.note = note;
  const base = undo.newest ?? null;
  const clientId = saving.add({ kind, id: info.id, params, base, grid: Array.from(grid.bytes), ...facts });
  snapshots.set(clientId, { grid: grid.copy(), scope, note });
  if (isState) undo.push(kind === "delete" ? null : clientId);
  if (kind === "edit" || isLeaving) keepNote(info.id, "");
  keepUndo(info.id, undo);
  if (kind !== "skip") keepEdit(info.id, grid);
  predict();
  show();
}

/** Bring their revision of an image back, on top of this page's version of it. */
export function takeTheirs(id, { revision: target, deleted }, grid) {
  const kind = deleted ? "delete" : "restore";
  if (state.grid && id === state.info.id) {
    set({ grid });
    return change(kind, { target });
  }
  const undo = keptUndo(id);
  const params = { author: author() };
  const clientId = saving.add({ kind, id, params, base: null, grid: Array.from(grid.bytes), target });
  undo.push(deleted ? null : clientId);
  keepUndo(id, undo);
}

/**
 * An image has a new state that was saved beside its undo list: one step of it.
 * @param before, revision: its newest revision before that and now
 * @param entry the state: a revision, or null for no edit
 */
export function noteSaved(id, before, revision, entry) {
  const kept = keptUndo(id);
  const undo = kept.newest === (before ?? undefined) ? kept : new UndoList({ entries: [before] });
  undo.push(entry);
  undo.newest = revision;
  keepUndo(id, undo);
}

/** Save what was painted over the grid `before`, if it is another now. */
export function saveIfChanged(before) {
  if (!before.equals(state.grid)) return change(state.grid.count ? "edit" : "delete");
  predict();
  show();
}

/** The note changed, or the scope, for the next images as well: an edit that is there is saved with it. */
export function revise(facts) {
  if (facts.scope) chosenScope = facts.scope;
  show(facts);
  if (state.grid?.count) change("edit");
  else if (state.grid && "note" in facts) keepNote(state.info.id, facts.note);
}

/** Go back to a revision, a change on its way, or null: no edit; `by`: a step of undo (-1) or redo (1). */
export async function restore(target, by = 0) {
  const { undo, stroke } = state;
  const kept = snapshots.get(target);
  const grid = kept?.grid.copy() ?? (await attempt((k) => fetchGrid(k, target)));
  if (!grid || stroke || undo !== state.undo || (by && undo.peek(by) !== target)) return;
  undo.move(by);
  set({ ...kept, grid });
  change(target === null ? "delete" : "restore", { target }, !by);
}

export function step(by) {
  const isThere = () => state.grid && state.undo.peek(by) !== undefined;
  steps = steps.then(() => isThere() && restore(state.undo.peek(by), by));
}

async function acknowledged({ id, kind, client_id, params }, { revision, status }) {
  const isOpen = () => state.grid && id === state.info.id;
  if (snapshots.has(client_id)) snapshots.set(revision, snapshots.get(client_id));
  const undo = isOpen() ? state.undo : keptUndo(id);
  undo.resolve(client_id, revision);
  keepUndo(id, undo);
  queue.setStatus(id, status);
  if (!isOpen() || saving.waiting(id)) return;
  const edited = { ...state.info, edit: params, status };
  const info = kind === "edit" ? edited : await get(`images/${state.k}`).catch(() => state.info);
  if (!isOpen()) return;
  show(factsOf(info));
  if (kind !== "edit") predict(); // the scope may be another one
  emit("revised");
}

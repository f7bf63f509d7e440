// What is shown of the open image beside the canvas, and of its saving.

import { errorText } from "../base/api.js";
import { $, element, indices, t, timeOf } from "../base/dom.js";
import { on } from "../base/events.js";
import * as queue from "../work/queue.js";
import { isLeft, isNoteWaiting } from "../work/changes.js";
import { waiting } from "../work/saving.js";
import { state } from "../work/state.js";
import { colour, scaleOfEdits } from "./view.js";

const percent = (p) => `${(100 * p).toFixed(1)} %`;
let saverState = { kind: "idle" }; // see Saver
let focused = null; // what had the focus when the image was hidden

on("opening", () => showImage(false, true));
on("opened", (isThere) => showImage(isThere));
on("changed", showAll);
on("grid", showGrid);
on("predicted", showPrediction);
on("saving", showSaved);

/** Show that there is an image to work on or, at most, the name of one that cannot be. */
function showImage(isThere, isBusy = false) {
  const { activeElement } = document;
  if (!isThere && activeElement.closest("[data-image]")) focused = activeElement;
  for (const each of document.querySelectorAll("[data-image]")) each.inert = !isThere;
  $("stage").ariaBusy = isBusy;
  $("image-name").textContent = isBusy ? "…" : queue.nameOf(state.k);
  if (isThere && activeElement === document.body) focused?.focus();
  if (isThere) focused = null;
}

function showAll() {
  showFacts();
  showTools();
  showScope();
  showPrediction();
  showGrid();
  showSaved(saverState);
}

function showFacts() {
  const { info, session, query, grid, note, scale } = state;
  const edit = waiting(info.id) ? null : info.edit;
  const reason = edit && isLeft(edit) ? edit.note.replace(/^[^:]*/, "") : "";
  const texts = {
    "image-name": info.id,
    "true-class": `${t("true_class")}: ${session.classes[info.label]}`,
    "image-status": t(`status_${info.status}`) + reason,
    "review-text": t("propagated", { confidence: edit?.confidence?.toFixed(2) ?? "–" }),
    query: query === "cls" ? t("query_cls") : t("query_patch", grid.place(Number(query))),
    "map-shown": t(state.isExact ? `map_${$("map").value}` : "map_estimate"),
    "scale-low": scale.low.toFixed(2),
    "scale-high": scale.isSigned ? t("nats", { value: scale.high.toFixed(2) }) : scale.high.toFixed(2),
  };
  for (const [id, text] of Object.entries(texts)) $(id).textContent = $(id).title = text;
  $("stage").dataset.map = $("map").value;
  $("review").hidden = !edit || info.status !== "propagated";
  $("per-head").hidden = !edit?.per_head;
  $("resized").hidden = !edit?.resized || isLeft(edit);
  $("other-weights").hidden = !edit?.other_weights || isLeft(edit);
  if (document.activeElement !== $("note")) $("note").value = note; // what is typed there stays
}

function showTools() {
  const { undo, grid, brush, scale, polygon } = state;
  $("canvas").ariaLabel = t("canvas", grid);
  $("undo").disabled = undo.peek(-1) === undefined && !polygon.length;
  $("redo").disabled = undo.peek(1) === undefined;
  $("reset").disabled = !grid.count;
  for (const button of $("tools").children) button.ariaPressed = button.dataset.tool === brush.tool;
  for (const id of ["target", "size", "softness"]) $(id).value = $(`${id}-shown`).textContent = brush[id];
  $("swatch").style.background = `rgb(${colour(brush.target, scaleOfEdits(scale)).slice(0, 3)})`;
}

/** The grid, and its value under the pointer or at the cell cursor; the latter is said aloud. */
function showGrid() {
  const { grid, shown, scale, point, cursor } = state;
  const cell = grid.cellAt(point ?? cursor ?? {});
  const [network, value] = [shown, grid.over(shown)].map((values) => values[cell]?.toFixed(2));
  const own = scale.isSigned ? t("nats", { value: network }) : network;
  const kind = (grid.edited[cell] ? "edited" : "own") + (scale.isSigned ? "_decision" : "");
  const text = () => t(`cell_${kind}`, { ...grid.place(cell), own, value });
  $("readout").textContent = cell < 0 ? "" : text();
  $("announce").textContent = point ? "" : $("readout").textContent;
  $("edited-count").textContent = t("edited_cells", { count: grid.count });
}

/** @param newest of the states of the saver */
function showSaved(newest) {
  const { kind, change, error, isKept, saved } = (saverState = newest);
  const savedAt = () => t("saved", { time: timeOf(saved.created), revision: saved.revision });
  const done = isNoteWaiting() ? t("note_waits") : saved ? savedAt() : "";
  const failed = () => t(isKept ? "not_saved_kept" : "not_saved", { error: errorText(error, change.id) });
  $("saved").textContent = error ? failed() : kind === "saving" ? t("saving") : done;
  $("saved").className = error ? "bad" : "";
}

function showPrediction() {
  const { top, info, session } = state;
  const { classes } = session;
  $("bars").replaceChildren(...top.map((row) => bars(classes[row.class], row, row.class === info.label)));
  const { class: was } = top.reduce((best, each) => (each.before > best.before ? each : best));
  const [{ class: first, p }] = top;
  const [wasRight, isRight] = [was === info.label, first === info.label];
  const badge = t(`badge_${isRight === wasRight ? "" : "turned_"}${isRight ? "right" : "wrong"}`);
  Object.assign($("badge"), { textContent: badge, className: `pill ${isRight ? "good" : "bad"}` });
  $("says").textContent = t("says", { name: classes[first], percent: Math.round(100 * p), badge });
}

function bars(name, { before, p: after }, isTrue) {
  const [className, mark, title] = isTrue ? ["true", "✓ ", `${t("true_class")}: ${name}`] : ["", "", name];
  const bar = (which, value) => element("progress", { className: which, value, ariaHidden: "true" });
  const change = `${percent(before)} → ${percent(after)}`;
  const label = element("span", { className: "name", textContent: mark + name, title });
  const number = element("span", { className: "number", textContent: change });
  const head = element("div", { className: "head" }, label, number);
  return element("li", { className }, head, bar("before", before), bar("after", after));
}

/** A part of a scope (layers, heads or queries) in words, or with "_why" what it means. */
export function scopeWords(name, value, { layers }, what = "") {
  const kind = ["all", "cls"].includes(value) ? value : "one";
  return t(`${name}_${kind}${what}`, { i: value === "last" ? layers - 1 : value });
}

/** The scope pickers; several layers or heads, chosen elsewhere, are offered too. */
function showScope() {
  const { scope, session } = state;
  const { layers, heads, class_token } = session;
  const queries = class_token ? ["cls"] : [];
  const parts = { layers: [...indices(layers - 1), "last"], heads: indices(heads), queries };
  for (const [name, values] of Object.entries(parts)) {
    const chosen = name === "layers" && scope[name] === String(layers - 1) ? "last" : scope[name];
    const option = (value) => new Option(scopeWords(name, value, session), value, false, value === chosen);
    $(`scope-${name}`).replaceChildren(...[...new Set(["all", ...values, chosen])].map(option));
    $(`why-${name}`).textContent = scopeWords(name, chosen, session, "_why");
  }
}

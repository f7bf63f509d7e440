// What is shown of the open image beside the canvas, and of its saving.

import { errorText } from "../base/api.js";
import { $, element, indices, t, timeOf } from "../base/dom.js";
import { on } from "../base/events.js";
import { isFlat, scaleInForce, scaleOfEdits } from "../numbers/scale.js";
import * as queue from "../work/queue.js";
import { isLeft, isNoteWaiting } from "../work/changes.js";
import { isDecision } from "../work/fetching.js";
import { isRegion } from "../work/painting.js";
import { waiting } from "../work/saving.js";
import { state } from "../work/state.js";
import { colour } from "./view.js";

const percent = (p) => `${(100 * p).toFixed(1)} %`;
const twoDigits = (value) => String(Number(value.toPrecision(2))); // a decision map may have a tiny range

/** The most probable class of a prediction, and of the one before it, in one sentence. */
export function twoAnswers(text, top, facts = {}) {
  const answer = (which) => {
    const best = top.reduce((first, each) => (each[which] > first[which] ? each : first));
    return `${state.session.classes[best.class]} (${percent(best[which])})`;
  };
  return t(text, { after: answer("p"), before: answer("before"), ...facts });
}

/** The list of bars of a prediction. */
export const barsOf = (top) =>
  top.map((row) => bars(state.session.classes[row.class], row, row.class === state.info.label));

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

/** What the map shows, in words: its kind and, of a decision map, the classes it is about. */
function mapShown({ info, session, asked, isExact }) {
  const { view, explained, against } = asked;
  if (!isDecision(view)) return t(`map_${view}`);
  const words = { predicted: info.top[0].class, true: info.label, none: null };
  const [target, other] = [explained, against].map((each) => words[each] ?? (each === "none" ? null : each));
  const [name, otherName] = [session.classes[target], session.classes[other]];
  const isSame = String(target) === String(other);
  const about = t(isSame ? "why_same" : otherName === undefined ? "why" : "why_not", {
    name,
    other: otherName,
  });
  return `${t(`map_${view}`)}${isExact ? "" : t("estimate")}: ${about}`;
}

function showFacts() {
  const { info, session, query, grid, note, display } = state;
  const scale = scaleInForce(state);
  const [low, high] = [scale.low, scale.high].map((value) =>
    scale.isSigned ? twoDigits(value) : value.toFixed(2),
  );
  const signed = display.fixed ? "nats_fixed" : isFlat(scale) ? "nats_flat" : "nats";
  const edit = waiting(info.id) ? null : info.edit;
  const reason = edit && isLeft(edit) ? edit.note.replace(/^[^:]*/, "") : "";
  const texts = {
    "image-name": info.id,
    "true-class": `${t("true_class")}: ${session.classes[info.label]}`,
    "image-status": t(`status_${info.status}`) + reason,
    "review-text": t("propagated", { confidence: edit?.confidence?.toFixed(2) ?? "–" }),
    query: query === "cls" ? t("query_cls") : t("query_patch", grid.place(Number(query))),
    "map-shown": mapShown(state),
    "scale-low": scale.isSigned && display.fixed ? `≤ ${low}` : low,
    "scale-high": scale.isSigned ? t(signed, { value: high }) : high,
  };
  for (const [id, text] of Object.entries(texts)) $(id).textContent = $(id).title = text;
  $("stage").dataset.map = isDecision($("map").value) ? "decision" : $("map").value;
  $("colour-bar").className = scale.isSigned ? "signed" : "";
  $("review").hidden = !edit || info.status !== "propagated";
  $("per-head").hidden = !edit?.per_head;
  $("resized").hidden = !edit?.resized || isLeft(edit);
  $("other-weights").hidden = !edit?.other_weights || isLeft(edit);
  if (document.activeElement !== $("note")) $("note").value = note; // what is typed there stays
}

function showTools() {
  const { undo, grid, brush, polygon, stroke } = state;
  $("canvas").ariaLabel = t("canvas", grid);
  $("undo").disabled = undo.peek(-1) === undefined && !polygon.length && !stroke;
  $("redo").disabled = undo.peek(1) === undefined;
  $("reset").disabled = !grid.count;
  for (const button of $("tools").children) button.ariaPressed = button.dataset.tool === brush.tool;
  $("region").hidden = !isRegion();
  $("region-hint").hidden = brush.tool !== "region" || isRegion();
  if (isRegion()) Object.assign($("region-size"), { max: stroke.order.length, value: stroke.size });
  if (isRegion()) $("region-shown").textContent = t("region_open", { count: stroke.size });
  for (const id of ["target", "size", "softness"]) $(id).value = $(`${id}-shown`).textContent = brush[id];
  $("swatch").style.background =
    `rgb(${colour(brush.target, scaleOfEdits(scaleInForce(state))).slice(0, 3)})`;
}

/** The grid, and its value under the pointer or at the cell cursor; the latter is said aloud. */
function showGrid() {
  const { grid, shown, scale, point, cursor } = state;
  const cell = grid.cellAt(point ?? cursor ?? {});
  const kind = (grid.edited[cell] ? "edited" : "own") + (scale.isSigned ? "_decision" : "");
  const text = () => {
    const own = scale.isSigned ? t("nats", { value: twoDigits(shown[cell]) }) : shown[cell].toFixed(2);
    return t(`cell_${kind}`, { ...grid.place(cell), own, value: grid.over(shown)[cell].toFixed(2) });
  };
  $("readout").textContent = $("readout").title = cell < 0 ? "" : text();
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
  const { top, info, session, grid, scope } = state;
  $("bars").replaceChildren(...barsOf(top));
  const { class: was } = top.reduce((best, each) => (each.before > best.before ? each : best));
  const [{ class: first, p }] = top;
  const [wasRight, isRight] = [was === info.label, first === info.label];
  const badge = t(`badge_${isRight === wasRight ? "" : "turned_"}${isRight ? "right" : "wrong"}`);
  Object.assign($("badge"), { textContent: badge, className: `pill ${isRight ? "good" : "bad"}` });
  const answers = twoAnswers(grid.count ? "answers" : "answer", top);
  const isEmpty = grid.isErased && Object.values(scope).every((part) => part === "all");
  $("answer").textContent = $("answer").title = isEmpty ? `${answers}. ${t("all_erased")}` : answers;
  $("says").textContent = t("says", { name: session.classes[first], percent: Math.round(100 * p), badge });
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

/** A layer's number, with a word where that says which it is: layers are counted from 0. */
function layerName(i, layers) {
  const name = { [layers - 1]: "last", 0: "first" }[i];
  return name && layers > 1 ? t(name, { i }) : String(i);
}

/** A part of a scope (layers, heads or queries) in words, or with "_why" what it means. */
export function scopeWords(name, value, { layers }, what = "") {
  const kind = ["all", "cls"].includes(value) ? value : "one";
  const i = value === "last" ? layers - 1 : value;
  return t(`${name}_${kind}${what}`, { i: name === "layers" ? layerName(i, layers) : i });
}

/** The scope pickers; several layers or heads, chosen elsewhere, are offered too. */
function showScope() {
  const { scope, session } = state;
  const { layers, heads, class_token } = session;
  for (const option of $("layer")) option.text = layerName(option.value, layers);
  const queries = class_token ? ["cls"] : [];
  const parts = { layers: [...indices(layers - 1), "last"], heads: indices(heads), queries };
  for (const [name, values] of Object.entries(parts)) {
    const chosen = name === "layers" && scope[name] === String(layers - 1) ? "last" : scope[name];
    const option = (value) => new Option(scopeWords(name, value, session), value, false, value === chosen);
    $(`scope-${name}`).replaceChildren(...[...new Set(["all", ...values, chosen])].map(option));
    $(`why-${name}`).textContent = scopeWords(name, chosen, session, "_why");
  }
}

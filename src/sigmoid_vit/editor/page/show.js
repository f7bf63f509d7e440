// What the page shows of the open image and of its saving, and what it asks in dialogs.

import { errorText } from "./api.js";
import { $, dateOf, element, indices, t, timeOf } from "./dom.js";
import { colour, View } from "./view.js";

const percent = (p) => `${(100 * p).toFixed(1)} %`;
const place = ({ columns }, cell) => ({ row: Math.floor(cell / columns) + 1, column: (cell % columns) + 1 });

export function showEditor(editor) {
  const { info, session, query, undo, brush, grid, saver } = editor;
  const edit = saver.waiting(info.id) ? null : info.edit;
  const isSkipped = edit && info.status === "skipped"; // its note is the reason
  const texts = {
    "image-name": info.id,
    "true-class": `${t("true_class")}: ${session.classes[info.label]}`,
    "image-status": t(`status_${info.status}`) + (isSkipped ? edit.note.replace(/^skipped/, "") : ""),
    "review-text": t("predicted", { confidence: edit?.confidence?.toFixed(2) ?? "–" }),
    query: query === "cls" ? t("query_cls") : t("query_patch", place(grid, Number(query))),
    "map-shown": t(`map_${$("map").value}`),
  };
  for (const [id, text] of Object.entries(texts)) $(id).textContent = $(id).title = text;
  $("canvas").ariaLabel = t("canvas", grid);
  $("review").hidden = !edit || info.status !== "predicted";
  $("per-head").hidden = !edit?.per_head;
  if (document.activeElement !== $("note")) $("note").value = editor.note; // what is typed there stays
  $("undo").disabled = undo.peek(-1) === undefined;
  $("redo").disabled = undo.peek(1) === undefined;
  $("reset").disabled = !grid.count;
  for (const button of $("tools").children) button.ariaPressed = button.dataset.tool === brush.tool;
  for (const id of ["target", "size", "softness"]) $(id).value = $(`${id}-shown`).textContent = brush[id];
  $("swatch").style.background = `rgb(${colour(brush.target)})`;
  showScope(editor.scope, session);
  showPrediction(info.label, editor.top, session.classes);
  showGrid(editor);
  showSaved(saver.state);
}

/** The grid, and its value under the pointer or at the cell cursor; the latter is said aloud. */
export function showGrid({ view, grid, shown, point, cursor }) {
  const cell = grid.cellAt(point ?? cursor ?? {});
  const [own, value] = [shown, grid.over(shown)].map((values) => values[cell]?.toFixed(2));
  const text = () => t(grid.edited[cell] ? "cell_edited" : "cell", { ...place(grid, cell), own, value });
  $("readout").textContent = cell < 0 ? "" : text();
  $("announce").textContent = point ? "" : $("readout").textContent;
  $("edited-count").textContent = t("edited_cells", { count: grid.count });
  view.draw();
}

/** Show that there is an image to work on or, at most, the name of one that cannot be. */
export function showImage(isThere, name = "") {
  for (const each of document.querySelectorAll("[data-image]")) each.inert = !isThere;
  $("image-name").textContent = name;
}

/** @param state of the saver */
export function showSaved({ kind, change, error, isKept, saved }) {
  const done = saved ? t("saved", { time: timeOf(saved.created), revision: saved.revision }) : "";
  const failed = () => t(isKept ? "not_saved_kept" : "not_saved", { error: errorText(error, change.id) });
  $("saved").textContent = error ? failed() : kind === "saving" ? t("saving") : done;
  $("saved").className = error ? "bad" : "";
}

/** @param top [{class, p, before}], most probable first; the first choice before the edit is among them */
export function showPrediction(label, top, classes) {
  const bar = ({ class: i, p, before }) => bars(classes[i], before, p, i === label);
  $("bars").replaceChildren(...top.map(bar));
  const { class: was } = top.reduce((best, each) => (each.before > best.before ? each : best));
  const [{ class: first, p }] = top;
  const [wasRight, isRight] = [was === label, first === label];
  const badge = t(`badge_${isRight === wasRight ? "" : "turned_"}${isRight ? "right" : "wrong"}`);
  Object.assign($("badge"), { textContent: badge, className: `pill ${isRight ? "good" : "bad"}` });
  $("says").textContent = t("says", { name: classes[first], percent: Math.round(100 * p), badge });
}

function bars(name, before, after, isTrue) {
  const [className, mark, title] = isTrue ? ["true", "✓ ", `${t("true_class")}: ${name}`] : ["", "", name];
  const bar = (which, value) => element("progress", { className: which, value, ariaHidden: "true" });
  const head = element("div", { className: "head" },
    element("span", { className: "name", textContent: mark + name, title }),
    element("span", { className: "number", textContent: `${percent(before)} → ${percent(after)}` }));
  return element("li", { className }, head, bar("before", before), bar("after", after));
}

/** A part of a scope (layers, heads or queries) in words, or with "_why" what it means. */
function scopeWords(name, value, { layers }, what = "") {
  const kind = ["all", "cls"].includes(value) ? value : "one";
  return t(`${name}_${kind}${what}`, { i: value === "last" ? layers - 1 : value });
}

/** The scope pickers; several layers or heads, chosen elsewhere, are offered too. */
function showScope(scope, session) {
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

function revisionText(name, { deleted, note, ...facts }) {
  const line = t(name, { ...facts, time: dateOf(facts.created) });
  return [line, deleted && t("deleted"), note].filter(Boolean).join(" · ");
}

export function showHistory(revisions, restore) {
  const rows = revisions.map((each, i) => {
    const onclick = () => restore(each.revision);
    const button = element("button", { textContent: t("restore"), onclick, disabled: !i || each.deleted });
    return element("li", {}, element("span", { textContent: revisionText("revision", each) }), button);
  });
  $("revisions").replaceChildren(...(rows.length ? rows : [t("no_history")]));
}

/** Open a dialog; resolves to the value of the button that closes it, or to "". */
function ask(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => { dialog.onclose = () => resolve(dialog.returnValue); });
}

/** Show two versions {session, picture, shown, grid, facts} of an image; resolves to whether mine is kept. */
export async function askConflict(id, mine, theirs) {
  $("conflict-image").textContent = id;
  for (const [name, { facts, ...drawn }] of Object.entries({ mine, theirs })) {
    $(name).replaceChildren(element("canvas"));
    new View($(name).firstChild, { query: "cls", polygon: [], ...drawn });
    const words = (part) => scopeWords(part, String(facts[part] ?? "all"), drawn.session);
    const scope = facts ? ["layers", "heads", "queries"].map(words) : [];
    const cells = t("edited_cells", { count: drawn.grid.count });
    const lines = [facts ? revisionText(name, facts) : t("deleted"), cells, ...scope];
    $(`${name}-caption`).textContent = lines.join("\n");
  }
  let choice = "";
  while (!choice) choice = await ask($("conflict")); // Esc decides nothing
  return choice === "mine";
}

/** Ask why an image is skipped; resolves to the reason, or "" when the person changes their mind. */
export async function askReason(value) {
  Object.assign($("skip-reason"), { value });
  return (await ask($("skip-dialog"))) === "skip" ? $("skip-reason").value.trim() : "";
}

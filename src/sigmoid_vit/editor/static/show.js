// What the page shows of the open image and of its saving, and what it asks in dialogs.

import { errorText } from "./api.js";
import { $, dateOf, element, indices, t, timeOf } from "./dom.js";
import { colour, drawValues } from "./view.js";

const percent = (p) => (p === undefined ? "–" : `${(100 * p).toFixed(1)} %`);
const place = ({ columns }, cell) => ({ row: Math.floor(cell / columns) + 1, column: (cell % columns) + 1 });

export function showEditor(editor) {
  const { info, session, query, undo, brush, grid, saver } = editor;
  const edit = saver.waiting(info.id) ? null : info.edit;
  const texts = {
    "image-name": info.id,
    "true-class": `${t("true_class")}: ${session.classes[info.label]}`,
    "image-status": t(`status_${info.status}`),
    "review-text": t("predicted", { confidence: edit?.confidence?.toFixed(2) ?? "–" }),
    query: query === "cls" ? t("query_cls") : t("query_patch", place(grid, Number(query))),
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
  showPrediction(info, editor.after, session.classes);
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

/** @param state of the saver */
export function showSaved({ kind, error, saved }) {
  const done = saved ? t("saved", { time: timeOf(saved.created), revision: saved.revision }) : "";
  const failed = () => t("not_saved", { error: errorText(error) });
  $("saved").textContent = error ? failed() : kind === "saving" ? t("saving") : done;
  $("saved").className = error ? "bad" : "";
}

// The likeliest classes after the edit, the network's first choice before it, and the true class, which is
// before.label; before and after are {top: [{class, p}], p_true}.
export function showPrediction(before, after, classes) {
  const { label } = before;
  const chance = ({ top, p_true }, i) => (i === label ? p_true : top.find((each) => each.class === i)?.p);
  const shown = new Set([...after.top.map((each) => each.class), before.top[0].class, label]);
  const rows = [...shown].sort((a, b) => (chance(after, b) ?? 0) - (chance(after, a) ?? 0));
  const bar = (i) => bars(classes[i], chance(before, i), chance(after, i), i === label);
  $("bars").replaceChildren(...rows.map(bar));
  const [wasRight, isRight] = [before, after].map(({ top }) => top[0].class === label);
  const badge = t(`badge_${isRight === wasRight ? "" : "turned_"}${isRight ? "right" : "wrong"}`);
  Object.assign($("badge"), { textContent: badge, className: `pill ${isRight ? "good" : "bad"}` });
  const [{ class: first, p }] = after.top;
  $("says").textContent = t("says", { name: classes[first], percent: Math.round(100 * p), badge });
}

function bars(name, before, after, isTrue) {
  const [className, mark, title] = isTrue ? ["true", "✓ ", `${t("true_class")}: ${name}`] : ["", "", name];
  const bar = (which, value = 0) => element("progress", { className: which, value, ariaHidden: "true" });
  const head = element("div", { className: "head" },
    element("span", { className: "name", textContent: mark + name, title }),
    element("span", { className: "number", textContent: `${percent(before)} → ${percent(after)}` }));
  return element("li", { className }, head, bar("before", before), bar("after", after));
}

/** The scope pickers; several layers or heads, chosen elsewhere, are offered too. */
function showScope(scope, { layers, heads, class_token }) {
  const queries = class_token ? ["cls"] : [];
  const parts = { layers: [...indices(layers - 1), "last"], heads: indices(heads), queries };
  for (const [name, values] of Object.entries(parts)) {
    const chosen = name === "layers" && scope[name] === String(layers - 1) ? "last" : scope[name];
    const kind = (value) => `${name}_${value === "all" || value === "cls" ? value : "one"}`;
    const words = (value) => t(kind(value), { i: value === "last" ? layers - 1 : value });
    const option = (value) => new Option(words(value), value, false, value === chosen);
    $(`scope-${name}`).replaceChildren(...[...new Set(["all", ...values, chosen])].map(option));
    $(`why-${name}`).textContent = t(`${kind(chosen)}_why`);
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

/** Show two versions of an image, values per cell; resolves to whether the person keeps their own. */
export async function askConflict(mine, theirs, facts, grid) {
  drawValues($("mine"), mine, grid);
  drawValues($("theirs"), theirs, grid);
  $("theirs-caption").textContent = facts ? revisionText("theirs", facts) : t("deleted");
  let choice = "";
  while (!choice) choice = await ask($("conflict")); // Esc decides nothing
  return choice === "mine";
}

/** Ask why an image is skipped; resolves to the reason, or "" when the person changes their mind. */
export async function askReason() {
  $("skip-reason").value = "";
  return (await ask($("skip-dialog"))) === "skip" ? $("skip-reason").value.trim() : "";
}

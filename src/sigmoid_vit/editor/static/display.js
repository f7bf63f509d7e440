// What the page shows of the open image and of its saving.

import { errorText } from "./api.js";
import { colour } from "./colours.js";
import { $ } from "./dom.js";
import { showPrediction, showScope } from "./panels.js";
import { t, timeOf } from "./texts.js";

export const FILLS = ["inside", "outside"]; // the tools that take a polygon
const PREDICTED = "propagated"; // the author of edits that a network predicted

export function showEditor(editor) {
  const { info, session, query, undo, brush, grid, saver } = editor;
  const edit = saver.waiting(editor.k) ? null : info.edit;
  const texts = {
    "image-name": info.id,
    "true-class": `${t("true_class")}: ${session.classes[info.label]}`,
    "image-status": t(`status_${info.status}`),
    "review-text": t("predicted", { confidence: edit?.confidence?.toFixed(2) ?? "–" }),
    query: query === "cls" ? t("query_cls") : t("query_patch", place(editor, Number(query))),
  };
  for (const [id, text] of Object.entries(texts)) $(id).textContent = $(id).title = text;
  $("review").hidden = edit?.author !== PREDICTED;
  $("per-head").hidden = !edit?.per_head;
  $("note").value = editor.note;
  $("undo").disabled = undo.peek(-1) === undefined;
  $("redo").disabled = undo.peek(1) === undefined;
  $("reset").disabled = !grid.count;
  showBrush(brush);
  showScope(editor.scope, session);
  showPrediction(info, editor.after, session.classes);
  showGrid(editor);
  showSaved(saver.state);
}

function showBrush(brush) {
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === brush.tool));
  }
  for (const id of ["target", "size", "softness"]) {
    $(id).value = brush[id];
    $(`${id}-shown`).textContent = id === "size" ? brush.size : brush[id].toFixed(2);
  }
  $("swatch").style.background = `rgb(${colour(brush.target)})`;
  $("canvas").style.cursor = brush.tool === "view" ? "grab" : "crosshair";
  $("polygon-hint").hidden = !FILLS.includes(brush.tool);
}

export function showGrid(editor) {
  const { view, grid, shown, polygon, cursor, query } = editor;
  view.setValues(grid.over(shown), grid.edited);
  view.mark({ polygon, cursor, query: query === "cls" ? -1 : Number(query) });
  $("edited-count").textContent = t("edited_cells", { count: grid.count });
  showReadout(editor);
}

/** The brush, and the value under the pointer or at the cell cursor; also said aloud if `aloud`. */
export function showReadout(editor, aloud = false) {
  const { grid, shown, point, brush, view } = editor;
  view.mark({ brush: point && editor.isStroke ? { ...point, size: brush.size } : null });
  const cell = point ? grid.cellAt(point) : editor.cursor;
  const [own, value] = [shown, grid.value].map((numbers) => (numbers[cell] ?? 0).toFixed(2));
  const facts = { ...place(editor, cell), own, value: grid.edited[cell] ? value : own };
  $("readout").textContent = cell < 0 ? "" : t(grid.edited[cell] ? "cell_edited" : "cell", facts);
  if (aloud) $("announce").textContent = $("readout").textContent;
}

const place = ({ columns }, cell) => ({ row: Math.floor(cell / columns) + 1, column: (cell % columns) + 1 });

/** @param state of the saver */
export function showSaved({ kind, error, saved }) {
  const isLost = kind === "failed" || kind === "conflict";
  const done = saved ? t("saved", { time: timeOf(saved.created), revision: saved.revision }) : "";
  const why = isLost && t("not_saved", { error: error ? errorText(error) : t("conflict") });
  $("saved").textContent = why || (kind === "saving" ? t("saving") : done);
  $("saved").classList.toggle("bad", isLost);
}

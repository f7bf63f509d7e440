// What the tools do to the open image: strokes of the brush, rectangles, regions, polygons, and clicks.
// A stroke and whatever is used like one (see fills.js) is shown as it goes, and saved when it ends.

import { get } from "../base/api.js";
import { t } from "../base/dom.js";
import { Rectangle, Region } from "../numbers/fills.js";
import { fillPolygon, isBrush, isPolygon, Stroke } from "../numbers/grid.js";
import { saveIfChanged, step } from "./changes.js";
import { attempt, say } from "./fetching.js";
import { changeMap, predict } from "./network.js";
import { lastEditBut } from "./repeating.js";
import { set, show, state } from "./state.js";

const POINTS = 10_000; // of a side of the image, as the server takes a point
let newestRegion = null; // request for one

export function setBrush(facts) {
  const isFill = state.stroke?.draw !== undefined;
  if ("tool" in facts && !isPolygon(facts) && isPolygonOpen()) return;
  if ("tool" in facts && isFill) endStroke();
  Object.assign(state.brush, facts); // the same object: a stroke that has begun follows it
  redraw((stroke) => stroke.draw?.());
}

/** Change the stroke that has begun, if there is one, and show what comes of it. */
function redraw(action) {
  if (state.stroke) action(state.stroke);
  show();
  if (state.stroke) predict();
}

/** Whether a polygon would be lost; if so, the message says it. */
export function isPolygonOpen() {
  if (state.polygon.length) say(t("polygon_open"));
  return state.polygon.length > 0;
}

export function startStroke(point) {
  const { grid, own, brush } = state;
  if (!grid) return;
  set({ stroke: brush.tool === "rectangle" ? new Rectangle(grid, brush) : new Stroke(grid, own, brush) });
  moveStroke(point);
}

export function moveStroke(point) {
  if (!state.stroke) return;
  state.stroke.to(point);
  show({}, "grid");
  predict();
}

/** Open the region around a point; what it reaches is not saved before it is kept. */
async function openRegion(point) {
  const { grid } = state;
  if (grid.cellAt(point) < 0) return;
  const place = (share) => Math.min(POINTS - 1, Math.floor(POINTS * share));
  const asked = { x: place(point.x / grid.columns), y: place(point.y / grid.rows) };
  const request = (newestRegion = Symbol("region"));
  const bytes = await attempt((k) => get(`images/${k}/region`, asked, "arrayBuffer"));
  const isWanted = request === newestRegion && grid === state.grid && !state.stroke;
  if (!bytes || !isWanted || state.brush.tool !== "region") return;
  set({ stroke: new Region(grid, state.brush, new Float32Array(bytes)) });
  redraw(() => null);
}

export const growRegion = (by) => isRegion() && redraw((region) => region.grow(by));
export const resizeRegion = (size) => isRegion() && redraw((region) => region.resize(size));
export const isRegion = () => state.stroke instanceof Region;

/** Keep the stroke, or take it back. */
export function endStroke(isKept = true) {
  const before = state.stroke?.before;
  set({ stroke: null });
  if (before && !isKept) set({ grid: before });
  if (before) saveIfChanged(before);
}

/** A click, or Enter on the cell cursor: paint, add a corner, or show a patch's map, as the tool says. */
export function act(point) {
  const { grid, brush, polygon, stroke } = state;
  if (!grid) return;
  if (stroke) return endStroke();
  if (!point) return;
  const cell = grid.cellAt(point);
  if (isPolygon(brush)) setPolygon([...polygon, point]);
  else if (brush.tool === "region") openRegion(point);
  else if (brush.tool !== "view") startStroke(point);
  else if (cell >= 0) changeMap(String(cell));
  if (isBrush(brush)) endStroke();
}

/** The cell cursor has moved: a rectangle that was begun there grows to it. */
export function follow(cursor) {
  if (state.brush.tool === "rectangle") moveStroke(cursor);
}

export function setPolygon(polygon) {
  if (state.polygon.length) say(""); // that it is open
  show({ polygon });
}

/** Drop what is open: a polygon, or what has not been saved yet. */
export function giveUp() {
  endStroke(false);
  setPolygon([]);
}

/** Take back what is open (of a polygon, its last corner) or, if nothing is, the last change. */
export function undo() {
  const { polygon, stroke } = state;
  if (stroke) return endStroke(false);
  return polygon.length ? setPolygon(polygon.slice(0, -1)) : step(-1);
}

export function redo() {
  endStroke();
  step(1);
}

/** Lay the last edit of another image over this one's. */
export function repeat() {
  if (!state.grid) return;
  endStroke();
  const { grid, info } = state;
  const [before, last] = [grid.copy(), lastEditBut(info.id)];
  say(last ? "" : t("nothing_to_repeat"));
  last?.value.forEach((value, cell) => last.edited[cell] && grid.set(cell, value));
  if (last) saveIfChanged(before);
}

/** Close the polygon and fill it. */
export function fill() {
  const { grid, polygon, brush } = state;
  if (polygon.length < 3) return;
  const before = grid.copy();
  setPolygon([]);
  fillPolygon(grid, polygon, brush.target, brush.tool === "inside");
  saveIfChanged(before);
}

// What the tools do to the open image: strokes of the brush, polygons, and clicks.

import { fillPolygon, isBrush, Stroke } from "../numbers/grid.js";
import { saveIfChanged, step } from "./changes.js";
import { say } from "./fetching.js";
import { changeMap, predict } from "./network.js";
import { set, show, state } from "./state.js";

export function setBrush(facts) {
  const brush = Object.assign(state.brush, facts); // the same object: a stroke that has begun follows it
  show("tool" in facts ? { brush, polygon: [] } : { brush });
}

export function startStroke(point) {
  if (!state.grid) return;
  set({ stroke: new Stroke(state.grid, state.own, state.brush) });
  moveStroke(point);
}

export function moveStroke(point) {
  if (!state.stroke) return;
  state.stroke.to(point);
  show({}, "grid");
  predict();
}

/** Keep the stroke, or take it back. */
export function endStroke(isKept = true) {
  const before = state.stroke?.before;
  set({ stroke: null });
  if (before && !isKept) set({ grid: before });
  if (before) saveIfChanged(before);
}

/** A click, or Enter on the cell cursor: paint, add a corner, or show a patch's map, as the tool says. */
export function act(point) {
  if (!state.grid || !point) return;
  const cell = state.grid.cellAt(point);
  if (isBrush(state.brush)) {
    startStroke(point);
    endStroke();
  } else if (state.brush.tool !== "view") setPolygon([...state.polygon, point]);
  else if (cell >= 0) changeMap(String(cell));
}

export function setPolygon(polygon) {
  if (state.polygon.length) say(""); // that it is open
  show({ polygon });
}

/** Take the last corner of an open polygon back or, without one, the last change. */
export function undo() {
  const { polygon } = state;
  return polygon.length ? setPolygon(polygon.slice(0, -1)) : step(-1);
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

// The grid of numbers behind the canvas, and what a brush or a polygon does to it. No DOM.
// Points are {x, y} in cells: x from 0 to columns, y from 0 to rows; cell i = row * columns + column.

export const STEP = 0.2; // what "raise" and "lower" add and take away

/** value float32 0..1 (0 where not edited) and edited uint8 (0: the network's own value holds), per cell. */
export class Grid {
  /** @param buffer what page and server exchange: the values, then the marks; an empty grid without it */
  constructor([rows, columns], buffer = new ArrayBuffer(5 * rows * columns)) {
    const cells = rows * columns;
    if (buffer.byteLength !== 5 * cells) throw new RangeError(`a grid of ${buffer.byteLength} bytes`);
    Object.assign(this, { rows, columns, bytes: new Uint8Array(buffer) });
    this.value = new Float32Array(buffer, 0, cells);
    this.edited = new Uint8Array(buffer, 4 * cells);
  }

  copy() {
    return new Grid([this.rows, this.columns], this.bytes.slice().buffer);
  }
  equals(other) {
    return String(this.bytes) === String(other.bytes);
  }
  erase(cell) {
    this.value[cell] = this.edited[cell] = 0;
  }
  get count() {
    return this.edited.reduce((sum, mark) => sum + mark, 0);
  }
  /** Whether every cell is edited to 0. */
  get isErased() {
    return this.count === this.value.length && this.value.every((value) => value === 0);
  }

  set(cell, value) {
    this.value[cell] = Math.min(1, Math.max(0, value));
    this.edited[cell] = 1;
  }
  /** The values that are shown: edited ones, and the network's own everywhere else. */
  over(own) {
    return this.value.map((value, cell) => (this.edited[cell] ? value : own[cell]));
  }
  /** The cell that holds a point, or -1 outside the grid; and the middle of a cell. */
  cellAt({ x, y }) {
    const inside = x >= 0 && x < this.columns && y >= 0 && y < this.rows;
    return inside ? Math.floor(y) * this.columns + Math.floor(x) : -1;
  }
  middle(cell) {
    return { x: (cell % this.columns) + 0.5, y: Math.floor(cell / this.columns) + 0.5 };
  }
  /** Its row and column, counted from 0 as everywhere. */
  place(cell) {
    return { row: Math.floor(cell / this.columns), column: cell % this.columns };
  }
}

/** Whether a tool paints strokes, is used by dragging at all, or fills polygons. */
export const isBrush = ({ tool }) => ["set", "raise", "lower", "erase"].includes(tool);
export const isDragged = (brush) => isBrush(brush) || brush.tool === "rectangle";
export const isPolygon = ({ tool }) => ["inside", "outside"].includes(tool);

/** One stroke of the brush. It depends on the path alone, not on how many points the pointer reported. */
export class Stroke {
  // own: the network's own values, where a soft edge, "raise" and "lower" start from if not edited.
  // brush {tool: "set" | "raise" | "lower" | "erase", target: 0..1, size: diameter in cells,
  //   softness: 0..1, the share of the radius over which the effect fades}
  constructor(grid, own, brush) {
    Object.assign(this, { grid, brush, before: grid.copy(), start: grid.over(own) });
    this.weight = new Float32Array(grid.value.length); // the strongest effect on each cell so far
  }
  /** Paint along the straight line from the last point; the first one is a dot. */
  to(point) {
    const { grid, last = point } = this;
    const { tool, target } = this.brush;
    this.last = point;
    this.weight.forEach((before, cell) => {
      const [weight, start] = [this.#weightAt(grid.middle(cell), last, point), this.start[cell]];
      if (weight <= Math.max(before, 0.01)) return;
      this.weight[cell] = weight;
      if (tool === "set") grid.set(cell, start + weight * (target - start));
      else if (tool !== "erase") grid.set(cell, start + weight * (tool === "raise" ? STEP : -STEP));
      else if (weight >= 0.5) grid.erase(cell);
    });
  }

  #weightAt(middle, from, to) {
    const radius = this.brush.size / 2;
    const full = radius * (1 - this.brush.softness);
    const distance = distanceToLine(middle, from, to);
    if (distance <= full || (distance < 1 && crosses(from, to, middle))) return 1;
    return distance >= radius ? 0 : 0.5 + 0.5 * Math.cos((Math.PI * (distance - full)) / (radius - full));
  }
}

/**
 * Give the cells inside (or outside) a polygon one value. Inside are those whose centre is, by the even-odd
 * rule; of a polygon that is too small to hold a centre, those that its corners lie in.
 */
export function fillPolygon(grid, points, target, inside) {
  const [path, context] = [new Path2D(), new OffscreenCanvas(1, 1).getContext("2d")];
  for (const { x, y } of points) path.lineTo(x, y);
  const cells = [...grid.value.keys()];
  const isInside = ({ x, y }) => context.isPointInPath(path, x, y, "evenodd");
  const held = cells.filter((cell) => isInside(grid.middle(cell)));
  const chosen = new Set(held.length ? held : points.map((point) => grid.cellAt(point)));
  for (const cell of cells) if (chosen.has(cell) === inside) grid.set(cell, target);
}

function distanceToLine(point, from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const along = ((point.x - from.x) * dx + (point.y - from.y) * dy) / (dx * dx + dy * dy || 1);
  const t = Math.min(1, Math.max(0, along));
  return Math.hypot(point.x - from.x - t * dx, point.y - from.y - t * dy);
}

/** Does the line pass through the square of side 1 around a middle? */
function crosses(from, to, middle) {
  let [enter, leave] = [0, 1];
  for (const axis of ["x", "y"]) {
    const step = to[axis] - from[axis] || Number.EPSILON; // also for a line along the other axis
    const sides = [-0.5, 0.5].map((side) => (middle[axis] + side - from[axis]) / step);
    enter = Math.max(enter, Math.min(...sides));
    leave = Math.min(leave, Math.max(...sides));
  }
  return enter < leave;
}

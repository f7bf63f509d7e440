// What gives many cells the brush's value at once and is seen before it is kept: a rectangle, or a region
// around a point. No DOM.
// Like a Stroke it changes the grid as it goes, and `before` is the grid it began on.

class Fill {
  /** @param brush {target: 0..1}; may change as long as the fill is not kept: then `draw` again */
  constructor(grid, brush) {
    Object.assign(this, { grid, brush, before: grid.copy() });
  }
  /** Give its cells the brush's value, and all others what they had. */
  draw() {
    this.grid.bytes.set(this.before.bytes);
    for (const cell of this.cells()) this.grid.set(cell, this.brush.target);
  }
}

/** From the cell of its first point to that of its last; what lies beyond the grid is left out. */
export class Rectangle extends Fill {
  to(point) {
    const { first = point } = this;
    Object.assign(this, { first, last: point });
    this.draw();
  }
  cells() {
    const { rows, columns } = this.grid;
    const across = between(this.first.x, this.last.x, columns);
    const down = between(this.first.y, this.last.y, rows);
    return down.flatMap((row) => across.map((column) => row * columns + column));
  }
}

/** The cells that are nearest to a point, by distances that do not change; how many of them is a choice. */
export class Region extends Fill {
  /** @param distances of every cell, at least 0; at first the region reaches as far as 1 */
  constructor(grid, brush, distances) {
    super(grid, brush);
    this.order = Array.from(distances.keys()).sort((a, b) => distances[a] - distances[b]);
    this.size = Math.max(1, distances.filter((distance) => distance <= 1).length);
    this.draw();
  }
  /** @param size cells, 1 up to all of them */
  resize(size) {
    this.size = Math.min(this.order.length, Math.max(1, size));
    this.draw();
  }
  /** A step larger (1) or smaller (-1), by an eighth, at least a cell. */
  grow(by) {
    this.resize(this.size + by * Math.ceil(this.size / 8));
  }
  cells() {
    return this.order.slice(0, this.size);
  }
}

/** The whole numbers from a to b, of those that name one of so many rows or columns. */
function between(a, b, count) {
  const [low, high] = [Math.floor(Math.min(a, b)), Math.floor(Math.max(a, b))];
  return Array.from({ length: count }, (_, i) => i).filter((i) => low <= i && i <= high);
}

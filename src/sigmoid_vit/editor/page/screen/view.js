// A canvas: picture, heat map and marks. It changes no number; zooming changes where they are drawn.

import { $ } from "../base/dom.js";
import { isBrush } from "../numbers/grid.js";
import { scaleInForce, scaleOfEdits, UNIT } from "../numbers/scale.js";

const [MARGIN, EDGE] = [8, 24]; // pixels around the whole picture, and around a point that is to be seen
// the colours at 0, 1/16, ..., 1: viridis, perceptually even, readable without colour vision
const VIRIDIS =
  "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 " +
  "5ec962 84d44b addc30 d8e219 fde725";
const TABLE = VIRIDIS.split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));

const [FOR, AGAINST] = [
  [178, 24, 43],
  [33, 102, 172],
]; // a class: red and blue
const MASK = "rgb(255 110 240)"; // as in none of the maps

/** [r, g, b, a] in 0..255 of a value on a scale; what has no effect lets the picture through. */
export function colour(value, { low, high, isSigned } = UNIT) {
  const strength = Math.min(1, Math.abs(value) / high);
  if (isSigned) return [...(value < 0 ? AGAINST : FOR), Math.round(255 * strength)];
  const position = Math.min(1, Math.max(0, (value - low) / (high - low))) * (TABLE.length - 1);
  const i = Math.min(Math.floor(position), TABLE.length - 2);
  const mix = (from, channel) => Math.round(from + (position - i) * (TABLE[i + 1][channel] - from));
  return [...TABLE[i].map(mix), 255];
}

/** Draw a grid over the shown map on a canvas that gets a pixel for each cell. */
function drawValues(canvas, drawn, [rows, columns]) {
  const image = new ImageData(columns, rows);
  const { grid, shown } = drawn;
  const scale = scaleInForce(drawn);
  const ofEdits = scaleOfEdits(scale);
  grid.over(shown).forEach((value, cell) => {
    image.data.set(colour(value, grid.edited[cell] ? ofEdits : scale), 4 * cell);
  });
  Object.assign(canvas, { width: columns, height: rows }).getContext("2d").putImageData(image, 0, 0);
}

export class View {
  /** @param drawn what is drawn, see `state`: session, picture, grid, shown, scale, query, polygon, brush */
  constructor(canvas, drawn) {
    Object.assign(this, { canvas, drawn, heat: new OffscreenCanvas(1, 1), isHidden: false });
    new ResizeObserver(() => this.draw()).observe(canvas);
    this.fit();
  }
  /** Show the whole picture; `moved` is what was done to that since, around the middle of the canvas. */
  fit() {
    this.draw({ moved: new DOMMatrix() });
  }
  /** Leave the map and the marks away, or draw them again. */
  hide(isHidden) {
    this.draw({ isHidden });
  }
  move(transform) {
    this.draw({ moved: transform.multiply(this.moved) });
  }
  /** Move by {x, y} pixels, as far as part of the picture is out of sight there; returns what is left. */
  pull({ x, y }) {
    const { clientWidth, clientHeight } = this.canvas;
    const [rows, columns] = this.drawn.session.grid;
    const { a, d, e, f } = this.#place();
    const within = (by, start, length, size) =>
      by > 0
        ? Math.min(by, Math.max(0, MARGIN - start))
        : Math.max(by, Math.min(0, size - MARGIN - start - length));
    const [right, down] = [within(x, e, a * columns, clientWidth), within(y, f, d * rows, clientHeight)];
    this.move(new DOMMatrix().translate(right, down));
    return { x: x - right, y: y - down };
  }
  /** Zoom around a point {clientX, clientY}, or the middle of the canvas; it stays where it is. */
  zoom(factor, point) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    const [x, y] = point ? [point.clientX - left - width / 2, point.clientY - top - height / 2] : [0, 0];
    const change = Math.min(this.#deepest(), Math.max(0.5, this.moved.a * factor)) / this.moved.a;
    this.move(new DOMMatrix().scale(change, change, 1, x, y));
  }
  /** The largest zoom: every pixel of the image can be told from the next. */
  #deepest() {
    const { picture, info, session } = this.drawn;
    const unzoomed = (this.#place().a * session.grid[1]) / this.moved.a; // width of the whole picture
    return Math.max(20, (4 * (info?.size[0] ?? picture?.width ?? 0)) / unzoomed);
  }
  /** What is seen of the picture, as shares of its sides; `shown`, its width in pixels of the screen. */
  visible() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [rows, columns] = this.drawn.session.grid;
    const back = this.#place().inverse();
    const from = new DOMPoint(0, 0).matrixTransform(back);
    const to = new DOMPoint(width, height).matrixTransform(back);
    const share = (value) => Math.min(1, Math.max(0, value));
    const visible = {
      left: share(from.x / columns),
      top: share(from.y / rows),
      right: share(to.x / columns),
      bottom: share(to.y / rows),
    };
    return { visible, shown: this.#place().a * columns * (window.devicePixelRatio || 1) };
  }
  /** The transform from cells to CSS pixels of the canvas. */
  #place() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const { session, picture } = this.drawn;
    const [rows, columns] = session.grid;
    const [w, h] = [picture?.width ?? 1, picture?.height ?? 1];
    const scale = Math.min((width - 2 * MARGIN) / w, (height - 2 * MARGIN) / h);
    const shown = new DOMMatrix().translate(width / 2, height / 2).multiply(this.moved);
    return shown.scale((scale * w) / columns, (scale * h) / rows).translate(-columns / 2, -rows / 2);
  }
  /** Move the picture as far as it takes to see a point {x, y} in cells. */
  reveal(point) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const { x, y } = new DOMPoint(point.x, point.y).matrixTransform(this.#place());
    const missing = (at, size) => Math.min(size - EDGE, Math.max(EDGE, at)) - at;
    this.move(new DOMMatrix().translate(missing(x, width), missing(y, height)));
  }
  /** A point {clientX, clientY} as {x, y} in cells. */
  toCells({ clientX, clientY }) {
    const { left, top } = this.canvas.getBoundingClientRect();
    const at = new DOMPoint(clientX - left - this.canvas.clientLeft, clientY - top - this.canvas.clientTop);
    const { x, y } = at.matrixTransform(this.#place().inverse());
    return { x, y };
  }
  /** Take over `facts`, and draw everything with the next frame. */
  draw(facts = {}) {
    Object.assign(this, facts);
    cancelAnimationFrame(this.requested);
    this.requested = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    const { canvas, drawn } = this;
    const { picture, grid, session } = drawn;
    const [[rows, columns], ratio] = [session.grid, window.devicePixelRatio || 1];
    const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
    Object.assign(canvas, { width, height }); // clears it, too
    if (!picture) return;
    const [context, place] = [canvas.getContext("2d"), this.#place()];
    context.setTransform(new DOMMatrix().scale(ratio).multiply(place));
    context.imageSmoothingEnabled = place.a * columns < 4 * picture.width;
    const { brightness = 1, contrast = 1 } = drawn.display ?? {};
    if (brightness !== 1 || contrast !== 1)
      context.filter = `brightness(${brightness}) contrast(${contrast})`;
    context.drawImage(picture, 0, 0, columns, rows);
    if (drawn.closeUp) this.#paintCloseUp(context, place);
    context.filter = "none";
    this.painted?.();
    if (!grid || this.isHidden) return;
    if (!$("hide").checked) this.#paintMap(context);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#paintGuides(context, place);
    if (!$("hide").checked) this.#paintMarks(context, place);
  }

  #paintCloseUp(context, place) {
    const { closeUp, session, info } = this.drawn;
    const [[rows, columns], [width, height]] = [session.grid, info.size];
    const { bitmap, left, top, right, bottom } = closeUp;
    const [x, y] = [columns / width, rows / height]; // of a pixel, in cells
    context.imageSmoothingEnabled = place.a * x * closeUp.shrink < 4;
    context.drawImage(bitmap, left * x, top * y, (right - left) * x, (bottom - top) * y);
  }

  #paintMap(context) {
    const { heat, drawn } = this;
    const [rows, columns] = drawn.session.grid;
    drawValues(heat, drawn, drawn.session.grid);
    context.imageSmoothingEnabled = false;
    context.globalAlpha = $("opacity").value;
    context.drawImage(heat, 0, 0, columns, rows);
    context.globalAlpha = 1;
  }
  /** The lines between the cells and the outline of the mask, where they are wanted. */
  #paintGuides(context, place) {
    const { session, display, outline } = this.drawn;
    const [rows, columns] = session.grid;
    if (display?.lines) {
      context.globalAlpha = 0.5;
      twoTone(context, cellLines(rows, columns), place, 0.75);
      context.globalAlpha = 1;
    }
    if (display?.mask && outline) twoTone(context, outlinePath(outline, rows, columns), place, 1.5, MASK);
  }
  /** Border of the edited cells, query, brush, polygon and cell cursor, in cells until they are drawn. */
  #paintMarks(context, place) {
    const { grid, query, point, brush, polygon, cursor } = this.drawn;
    const lines = border(grid);
    if (query !== "cls") circle(lines, grid.middle(Number(query)), 0.25);
    if (point && isBrush(brush)) circle(lines, point, brush.size / 2);
    for (const corner of polygon) circle(lines, corner, 3 / place.a);
    polygon.forEach(({ x, y }, i) => (i ? lines.lineTo(x, y) : lines.moveTo(x, y)));
    twoTone(context, lines, place, 1.5);
    if (!cursor) return;
    const square = new Path2D();
    square.rect(cursor.x - 0.5, cursor.y - 0.5, 1, 1);
    context.setLineDash([5, 4]);
    twoTone(context, square, place, 2.5);
  }
}

/** The lines between edited cells and others. */
function border({ rows, columns, edited }) {
  const path = new Path2D();
  const isEdited = (x, y) => x >= 0 && x < columns && edited[y * columns + x] === 1;
  for (let y = 0; y <= rows; y++) {
    for (let x = 0; x <= columns; x++) {
      if (isEdited(x, y) !== isEdited(x - 1, y)) path.rect(x, y, 0, 1);
      if (isEdited(x, y) !== isEdited(x, y - 1)) path.rect(x, y, 1, 0);
    }
  }
  return path;
}

function cellLines(rows, columns) {
  const path = new Path2D();
  for (let y = 0; y <= rows; y++) line(path, 0, y, columns, y);
  for (let x = 0; x <= columns; x++) line(path, x, 0, x, rows);
  return path;
}

/** @param outline see `state` */
function outlinePath(outline, rows, columns) {
  const path = new Path2D();
  for (let i = 0; i < outline.length; i += 4) {
    const [x, y, toX, toY] = outline.subarray(i, i + 4);
    line(path, x * columns, y * rows, toX * columns, toY * rows);
  }
  return path;
}

function line(path, x, y, toX, toY) {
  path.moveTo(x, y);
  path.lineTo(toX, toY);
}

function circle(path, { x, y }, radius) {
  path.moveTo(x + radius, y);
  path.arc(x, y, radius, 0, 2 * Math.PI);
}

/** A light line with a dark rim, visible on every picture. */
function twoTone(context, path, place, width, strokeStyle = "white") {
  const placed = new Path2D();
  placed.addPath(path, place);
  Object.assign(context, { strokeStyle: "rgb(0 0 0 / 75%)", lineWidth: width + 2 }).stroke(placed);
  Object.assign(context, { strokeStyle, lineWidth: width }).stroke(placed);
}

// The canvas: picture, heat map and marks. A view of the numbers; zooming and moving never touch them.

import { heatImage } from "./colours.js";

const MARGIN = 8; // pixels around the whole picture

export class View {
  constructor(canvas) {
    Object.assign(this, { canvas, picture: null, values: null, size: [1, 1], rows: 1, columns: 1 });
    this.marks = { opacity: 0.6, hidden: false, cursor: -1, query: -1, brush: null, polygon: [] };
    this.fit();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** A picture whose original is `size` [width, height], shown whole, with a grid over all of it. */
  setPicture(picture, size, rows, columns) {
    Object.assign(this, { picture, size, rows, columns, values: null });
    this.fit();
  }

  /** Values in 0..1 and marks of the edited cells, both per cell, row by row. */
  setValues(values, edited) {
    Object.assign(this, { values, edited, heat: null });
    this.draw();
  }

  mark(marks) {
    Object.assign(this.marks, marks);
    this.draw();
  }

  fit() {
    Object.assign(this, { scale: 1, shift: { x: 0, y: 0 } });
    this.draw();
  }

  /** Zoom around a point of the window (default: the middle of the canvas), which stays where it is. */
  zoom(factor, clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    const change = Math.min(20, Math.max(0.5, this.scale * factor)) / this.scale;
    const x = clientX === undefined ? 0 : clientX - box.left - box.width / 2;
    const y = clientY === undefined ? 0 : clientY - box.top - box.height / 2;
    this.scale *= change;
    this.shift = { x: x - change * (x - this.shift.x), y: y - change * (y - this.shift.y) };
    this.draw();
  }

  pan(dx, dy) {
    this.shift = { x: this.shift.x + dx, y: this.shift.y + dy };
    this.draw();
  }

  /** Where the picture lies on the canvas, in CSS pixels. */
  place() {
    const { clientWidth, clientHeight } = this.canvas;
    const [w, h] = this.size;
    const scale = this.scale * Math.min((clientWidth - 2 * MARGIN) / w, (clientHeight - 2 * MARGIN) / h);
    const [width, height] = [scale * w, scale * h];
    const left = (clientWidth - width) / 2 + this.shift.x;
    const top = (clientHeight - height) / 2 + this.shift.y;
    return { left, top, width, height };
  }

  /** A point of the window as {x, y} in cells. */
  toCells(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    const { left, top, width, height } = this.place();
    const x = clientX - box.left - this.canvas.clientLeft - left;
    const y = clientY - box.top - this.canvas.clientTop - top;
    return { x: (x / width) * this.columns, y: (y / height) * this.rows };
  }

  draw() {
    this.requested ??= requestAnimationFrame(() => {
      this.requested = undefined;
      this.#paint();
    });
  }

  #paint() {
    const { canvas, marks } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
    Object.assign(canvas, { width, height }); // clears it, too
    if (!this.picture) return;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const place = this.place();
    const box = [place.left, place.top, place.width, place.height];
    context.imageSmoothingEnabled = place.width < 4 * this.size[0];
    context.drawImage(this.picture, ...box);
    if (!this.values || marks.hidden) return;
    this.heat ??= this.#heat();
    context.imageSmoothingEnabled = false;
    context.globalAlpha = marks.opacity;
    context.drawImage(this.heat, ...box);
    context.globalAlpha = 1;
    context.translate(place.left, place.top);
    this.#paintMarks(context, place.width / this.columns, place.height / this.rows);
  }

  #heat() {
    const heat = new OffscreenCanvas(this.columns, this.rows);
    heat.getContext("2d").putImageData(heatImage(this.values, this.rows, this.columns), 0, 0);
    return heat;
  }

  /** Border of the edited cells, query, brush, polygon and cell cursor; a cell is w x h pixels. */
  #paintMarks(context, w, h) {
    const { cursor, query, brush, polygon } = this.marks;
    const at = (cell) => [(cell % this.columns) * w, Math.floor(cell / this.columns) * h];
    const path = this.#border(w, h);
    if (query >= 0) circle(path, at(query)[0] + w / 2, at(query)[1] + h / 2, Math.min(w, h) / 4);
    if (brush) circle(path, brush.x * w, brush.y * h, (brush.size * w) / 2, (brush.size * h) / 2);
    for (const { x, y } of polygon) circle(path, x * w, y * h, 3);
    polygon.forEach(({ x, y }, i) => (i ? path.lineTo(x * w, y * h) : path.moveTo(x * w, y * h)));
    twoTone(context, 1.5, path);
    if (cursor < 0) return;
    const square = new Path2D();
    square.rect(...at(cursor), w, h);
    context.setLineDash([5, 4]);
    twoTone(context, 2.5, square);
  }

  #border(w, h) {
    const path = new Path2D();
    const isEdited = (row, column) =>
      column >= 0 && column < this.columns && this.edited[row * this.columns + column];
    this.edited.forEach((mark, cell) => {
      const [row, column] = [Math.floor(cell / this.columns), cell % this.columns];
      for (const [down, right] of mark ? [[-1, 0], [1, 0], [0, -1], [0, 1]] : []) {
        if (isEdited(row + down, column + right)) continue;
        const [x, y] = [column + Math.max(0, right), row + Math.max(0, down)];
        path.moveTo(x * w, y * h);
        path.lineTo((right ? x : x + 1) * w, (right ? y + 1 : y) * h);
      }
    });
    return path;
  }
}

function circle(path, x, y, radiusX, radiusY = radiusX) {
  path.moveTo(x + radiusX, y);
  path.ellipse(x, y, radiusX, radiusY, 0, 0, 2 * Math.PI);
}

/** A white line with a dark rim, visible on every picture. */
function twoTone(context, width, path) {
  for (const [style, extra] of [["rgb(0 0 0 / 75%)", 2], ["white", 0]]) {
    Object.assign(context, { strokeStyle: style, lineWidth: width + extra });
    context.stroke(path);
  }
}

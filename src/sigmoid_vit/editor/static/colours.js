// The colour scale of the heat map: viridis, perceptually even, readable without colour vision.

const ANCHORS = "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 " +
  "5ec962 84d44b addc30 d8e219 fde725"; // at 0, 1/16, ..., 1

const TABLE = ANCHORS.split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));

/** [r, g, b] in 0..255 of a value in 0..1. */
export function colour(value) {
  const position = Math.min(1, Math.max(0, value)) * (TABLE.length - 1);
  const i = Math.min(Math.floor(position), TABLE.length - 2);
  return TABLE[i].map((from, channel) => Math.round(from + (position - i) * (TABLE[i + 1][channel] - from)));
}

/** Draw values on a canvas that gets a pixel for each of them. */
export function drawValues(canvas, values, [rows, columns]) {
  const image = new ImageData(columns, rows);
  values.forEach((value, cell) => image.data.set([...colour(value), 255], 4 * cell));
  Object.assign(canvas, { width: columns, height: rows }).getContext("2d").putImageData(image, 0, 0);
}

// A small picture of an image with an edit drawn in.

import { get } from "../base/api.js";
import { element } from "../base/dom.js";
import { fetchGrid } from "../work/fetching.js";
import { colour } from "./view.js";

const [SIDE, OPACITY] = [96, 0.6];

export const fetchThumbnail = (k) => get(`images/${k}/thumbnail`, {}, "blob").then(createImageBitmap);

/**
 * A canvas, filled in as soon as picture and edit are there.
 * @param revision of the edit, null for none; picture see fetchThumbnail
 */
export function smallPicture(k, revision, picture = fetchThumbnail(k)) {
  const canvas = element("canvas", { width: SIDE, height: SIDE, className: "small" });
  draw(canvas, k, revision, picture).catch(() => canvas.classList.add("missing"));
  return canvas;
}

async function draw(canvas, k, revision, picture) {
  const [image, { value, edited, rows, columns }] = await Promise.all([picture, fetchGrid(k, revision)]);
  Object.assign(canvas, { width: image.width, height: image.height });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  context.scale(image.width / columns, image.height / rows);
  context.globalAlpha = OPACITY;
  edited.forEach((isEdited, cell) => {
    if (!isEdited) return;
    context.fillStyle = `rgb(${colour(value[cell]).slice(0, 3)})`;
    context.fillRect(cell % columns, Math.floor(cell / columns), 1, 1);
  });
}

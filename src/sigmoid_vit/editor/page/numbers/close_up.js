// Which part of a large photograph to fetch, so that its own pixels are seen. No DOM.

const MOST = 4_000_000; // pixels of a region, as the server has it
const AROUND = 0.25; // of what is visible, fetched with it on each side
const SHRINK = 8; // the largest

/**
 * The region to fetch: {left, top, right, bottom} in pixels of the photograph and `shrink`, how many of them
 * become one; null where the overview shows as much.
 * @param size [width, height] of the photograph; overview: width of the picture that is there
 * @param visible {left, top, right, bottom} of it, as shares of its sides
 * @param shown width of the whole photograph on the screen, in pixels
 */
export function closeUpOf({ size: [width, height], overview, visible, shown }) {
  if (shown <= overview) return null;
  const widened = (start, end, length) => {
    const around = AROUND * (end - start);
    const [first, last] = [Math.floor((start - around) * length), Math.ceil((end + around) * length)];
    return [Math.max(0, first), Math.min(length, last)];
  };
  const [left, right] = widened(visible.left, visible.right, width);
  const [top, bottom] = widened(visible.top, visible.bottom, height);
  const area = (right - left) * (bottom - top);
  let shrink = 1;
  while (shrink < SHRINK && (width / (2 * shrink) >= shown || area > MOST * shrink ** 2)) shrink *= 2;
  const isMore = width / shrink > overview && area > 0 && area <= MOST * shrink ** 2;
  return isMore ? { left, top, right, bottom, shrink } : null;
}

/** Whether a region that is there shows what is visible of a photograph, as sharp as another one would. */
export function covers(there, wanted, visible, [width, height]) {
  const isInside =
    there.left <= Math.max(0, visible.left * width) &&
    there.right >= Math.min(width, visible.right * width) &&
    there.top <= Math.max(0, visible.top * height) &&
    there.bottom >= Math.min(height, visible.bottom * height);
  return isInside && there.shrink <= wanted.shrink;
}

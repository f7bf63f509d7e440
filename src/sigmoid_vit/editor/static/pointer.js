// Mouse, pen and touch on the canvas: strokes, clicks, moving and zooming.

const CLICK = 5; // pixels that a click may wander

/** @param isSpaceDown whether a drag moves the picture, whatever the tool */
export function listenToPointer(canvas, editor, isSpaceDown) {
  const { view } = editor;
  const down = new Map(); // pointer id -> its last {x, y} in the window
  let gesture = null; // what the pointers that are down do: "stroke", "move" or "click"
  let origin = null;
  const pixels = (event) => ({ x: event.clientX, y: event.clientY });
  const cells = (event) => view.toCells(event.clientX, event.clientY);

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    origin = pixels(event);
    down.set(event.pointerId, origin);
    const second = down.size > 1;
    if (second && gesture === "stroke") editor.cancelStroke();
    gesture = second || event.button === 1 || isSpaceDown() ? "move" : editor.isStroke ? "stroke" : "click";
    if (gesture === "stroke") editor.startStroke(cells(event));
  });

  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "touch") editor.showReadout(cells(event));
    if (!down.has(event.pointerId)) return;
    const before = [...down.values()];
    down.set(event.pointerId, pixels(event));
    if (gesture === "stroke") {
      const parts = event.getCoalescedEvents?.() ?? [];
      for (const part of parts.length ? parts : [event]) editor.moveStroke(cells(part));
    } else if (gesture === "move") move(before, [...down.values()]);
    else if (spread([origin, pixels(event)]) > CLICK) gesture = "move";
  });

  /** One pointer drags the picture; two carry it with their middle and their distance. */
  function move(before, now) {
    const [from, to] = [middle(before), middle(now)];
    view.pan(to.x - from.x, to.y - from.y);
    if (now.length > 1) view.zoom(spread(now) / Math.max(1, spread(before)), to.x, to.y);
  }

  function finish(event) {
    if (!down.delete(event.pointerId)) return;
    const isUp = event.type === "pointerup"; // else the system took the pointer away
    if (gesture === "stroke") isUp ? editor.endStroke() : editor.cancelStroke();
    if (gesture === "click" && isUp) editor.act(cells(event));
    if (!down.size) gesture = null;
  }

  canvas.addEventListener("pointerup", finish);
  canvas.addEventListener("pointercancel", finish);
  canvas.addEventListener("pointerleave", () => editor.showReadout(null));
  canvas.addEventListener("dblclick", () => editor.fill());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    view.zoom(Math.exp(-0.0015 * event.deltaY), event.clientX, event.clientY);
  }, { passive: false });
}

const mean = (numbers) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
const middle = (points) => ({ x: mean(points.map(({ x }) => x)), y: mean(points.map(({ y }) => y)) });
const spread = ([a, b]) => Math.hypot(a.x - b.x, a.y - b.y);

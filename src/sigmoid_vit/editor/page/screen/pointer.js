// Mouse, pen and touch on the canvas: strokes, clicks, moving and zooming.

import { $ } from "../base/dom.js";
import { isDragged } from "../numbers/grid.js";
import { act, endStroke, fill, growRegion, isRegion, moveStroke, startStroke } from "../work/painting.js";
import { show, state } from "../work/state.js";

const CLICK = 5; // pixels that a click may wander
const PINCH = 24; // pixels that two fingers come nearer or part before they zoom
const NOTCH = 50; // pixels that the wheel turns for a step of a region; a touchpad sends many small ones

/** @param isSpaceDown whether a drag moves the picture, whatever the tool */
export function listenToPointer(view, isSpaceDown) {
  const canvas = $("canvas");
  const hover = (point) => show({ point }, "grid");
  const down = new Map(); // pointer id -> its last event
  let gesture = null; // what the pointers that are down do: "stroke", "move" or "click"
  let apart = 0; // pixels between two fingers as they came down, until they zoom
  let turned = 0; // by the wheel, since the last step of a region

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    endStroke(!down.size); // what a first finger began is dropped
    down.set(event.pointerId, event);
    apart = down.size > 1 ? spread([...down.values()]) : 0;
    const isMove = down.size > 1 || event.button === 1 || isSpaceDown();
    gesture = isMove ? "move" : isDragged(state.brush) ? "stroke" : "click";
    if (gesture === "stroke") startStroke(view.toCells(event));
  });

  canvas.addEventListener("pointermove", (event) => {
    const parts = [...(event.getCoalescedEvents?.() ?? []), event];
    const [before, last] = [[...down.values()], down.get(event.pointerId)];
    if (event.pointerType !== "touch") hover(view.toCells(event));
    if (!last || (gesture === "click" && spread([last, event]) <= CLICK)) return;
    down.set(event.pointerId, event);
    if (gesture === "stroke") for (const part of parts) moveStroke(view.toCells(part));
    else move(before, [...down.values()]);
  });
  /** A drag moves the picture: fingers only what is out of sight, then the page, until two of them zoom. */
  function move(before, now) {
    const [from, to] = [middle(before), middle(now)];
    const by = { x: to.clientX - from.clientX, y: to.clientY - from.clientY };
    gesture = "move";
    if (Math.abs(spread(now) - apart) > PINCH) apart = 0;
    const isPinch = now.length > 1 && !apart;
    if (now[0].pointerType === "touch" && !isPinch) scroll(view.pull(by));
    else view.move(new DOMMatrix().translate(by.x, by.y));
    if (isPinch) view.zoom(spread(now) / Math.max(1, spread(before)), to);
  }

  function finish(event) {
    if (!down.delete(event.pointerId)) return;
    const isUp = event.type === "pointerup"; // else the system took the pointer away
    if (gesture === "stroke") endStroke(isUp);
    if (gesture === "click" && isUp) act(view.toCells(event));
    if (!down.size) gesture = null;
  }

  canvas.addEventListener("pointerup", finish);
  canvas.addEventListener("pointercancel", finish);
  canvas.addEventListener("pointerleave", () => hover(null));
  canvas.addEventListener("dblclick", () => fill());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (!isRegion() || event.ctrlKey) return view.zoom(Math.exp(-0.0015 * event.deltaY), event);
    turned += event.deltaY;
    if (Math.abs(turned) < NOTCH) return;
    growRegion(-Math.sign(turned));
    turned = 0;
  });
}

let due = 0; // pixels that the page has still to scroll: it does so by whole ones

/** Let the page follow a finger: the box of the canvas or, on a small screen, all of it. */
function scroll({ y }) {
  due -= y;
  const top = Math.trunc(due);
  due -= top;
  for (const box of [$("stage"), document.scrollingElement]) box.scrollBy({ top, behavior: "instant" });
}

const mean = (name, [a, b = a]) => (a[name] + b[name]) / 2;
const middle = (points) => ({ clientX: mean("clientX", points), clientY: mean("clientY", points) });
const spread = ([a, b = a]) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);

// The keyboard: a key presses the button whose data-keys name it, sets the brush, or moves the cell cursor.

import { $ } from "../base/dom.js";
import { isBrush } from "../numbers/grid.js";
import { act, follow, giveUp, growRegion, isRegion, setBrush } from "../work/painting.js";
import { show, state } from "../work/state.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Returns a function that tells whether the space bar is held, so that a drag moves the picture. */
export function listenToKeys(view) {
  const canvas = $("canvas");
  let space = null; // while it is held: "down", or "used" once it served to move the picture

  function moveCursor([right, down]) {
    const { grid, cursor } = state;
    if (!grid) return;
    const middle = { x: Math.floor(grid.columns / 2) + 0.5, y: Math.floor(grid.rows / 2) + 0.5 };
    const to = cursor ? { x: cursor.x + right, y: cursor.y + down } : middle;
    canvas.focus();
    show({ point: null, cursor: grid.cellAt(to) < 0 ? cursor : to });
    view.reveal(state.cursor);
    follow(state.cursor);
  }

  function setValue(target) {
    setBrush({ target, ...(isBrush(state.brush) && { tool: "set" }) });
  }

  function press(key, target) {
    const buttons = [...document.querySelectorAll(`[data-keys~="${CSS.escape(key)}"]`)];
    const button = buttons.find((each) => each.checkVisibility());
    const isRange = target.type === "range"; // its own keys are the arrows and Home
    if (key in ARROWS && !isRange) moveCursor(ARROWS[key]);
    else if (key === "i" || /^\d$/.test(key)) setValue(key === "i" ? 1 : key / 10);
    else if ((key === "[" || key === "]") && isRegion()) growRegion(key === "]" ? 1 : -1);
    else if (key === "[" || key === "]") {
      $("size").stepUp(key === "]" ? 1 : -1);
      setBrush({ size: $("size").valueAsNumber });
    } else if (key === "Enter" && (target === canvas || (state.stroke && isRange))) act(state.cursor);
    else if (key === "h") view.hide(true);
    else if (key === "Escape") giveUp();
    else if (button && !(isRange && key === "Home")) button.click();
    else return false;
    return true;
  }

  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.altKey || event.isComposing) return;
    const { target } = event;
    const control = event.ctrlKey || event.metaKey;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const typing = target.matches("select, input:not([type=range], [type=checkbox])");
    if (key === " " && !typing) {
      space ??= "down";
      if (target === canvas) event.preventDefault();
    } else if (control && (!typing || key === "Enter")) {
      if (typing) target.blur(); // so that a note is taken over
      if (press(`Ctrl+${event.shiftKey ? "Shift+" : ""}${key}`, target)) event.preventDefault();
    } else if (!control && !typing && press(key, target)) event.preventDefault();
  });

  document.addEventListener("keyup", ({ key, target }) => {
    if (key.toLowerCase() === "h") view.hide(false);
    if (key !== " ") return;
    if (space === "down" && target === canvas) act(state.cursor);
    space = null;
  });
  window.addEventListener("blur", () => view.hide(false)); // H may be released elsewhere
  canvas.addEventListener("blur", () => state.cursor && show({ cursor: null }));
  return () => Boolean(space && (space = "used"));
}

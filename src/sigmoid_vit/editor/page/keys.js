// The keyboard: a key presses the button whose data-keys name it, sets the brush, or moves the cell cursor.

import { $ } from "./dom.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Returns a function that tells whether the space bar is held, so that a drag moves the picture. */
export function listenToKeys(editor) {
  const [canvas, { view }] = [$("canvas"), editor];
  let space = null; // while it is held: "down", or "used" once it served to move the picture

  function moveCursor([right, down]) {
    const { grid, cursor } = editor;
    if (!grid) return;
    const middle = { x: Math.floor(grid.columns / 2) + 0.5, y: Math.floor(grid.rows / 2) + 0.5 };
    const to = cursor ? { x: cursor.x + right, y: cursor.y + down } : middle;
    canvas.focus();
    editor.show({ point: null, cursor: grid.cellAt(to) < 0 ? cursor : to });
    view.reveal(editor.cursor);
  }

  function press(key, target) {
    const button = document.querySelector(`[data-keys~="${CSS.escape(key)}"]`);
    const isRange = target.type === "range"; // its own keys are the arrows and Home
    if (key in ARROWS && !isRange) moveCursor(ARROWS[key]);
    else if (/^\d$/.test(key)) editor.setBrush({ target: key / 10, ...(editor.isStroke && { tool: "set" }) });
    else if (key === "[" || key === "]") {
      $("size").stepUp(key === "]" ? 1 : -1);
      editor.setBrush({ size: $("size").valueAsNumber });
    } else if (key === "Enter" && target === canvas) editor.act(editor.cursor);
    else if (key === "h") view.draw({ isHidden: true });
    else if (key === "Escape") editor.show({ polygon: [] });
    else if (button?.checkVisibility() && !(isRange && key === "Home")) button.click();
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
    if (key.toLowerCase() === "h") view.draw({ isHidden: false });
    if (key !== " ") return;
    if (space === "down" && target === canvas) editor.act(editor.cursor);
    space = null;
  });
  window.addEventListener("blur", () => view.draw({ isHidden: false })); // H may be released elsewhere
  canvas.addEventListener("blur", () => editor.cursor && editor.show({ cursor: null }));
  return () => Boolean(space && (space = "used"));
}

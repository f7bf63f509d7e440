// The keyboard: a key presses the button whose data-keys name it, sets the brush, or moves the cell cursor.

import { $ } from "./dom.js";

const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

/** Returns a function that tells whether the space bar is held, so that a drag moves the picture. */
export function listenToKeys(editor) {
  const canvas = $("canvas");
  let space = null; // while it is held: "down", or "used" once it served to move the picture

  function moveCursor([down, right]) {
    const { rows, columns, cursor } = editor;
    const row = Math.min(rows - 1, Math.max(0, Math.floor(cursor / columns) + down));
    const column = Math.min(columns - 1, Math.max(0, (cursor % columns) + right));
    const middle = Math.floor(rows / 2) * columns + Math.floor(columns / 2);
    if (!editor.grid) return;
    canvas.focus();
    editor.show({ cursor: cursor < 0 ? middle : row * columns + column });
    editor.showReadout(null, true);
  }

  function act() {
    if (editor.grid && editor.cursor >= 0) editor.act(editor.grid.middle(editor.cursor));
    editor.showReadout(null, true);
  }

  function press(key, target) {
    const button = document.querySelector(`[data-keys~="${CSS.escape(key)}"]`);
    const isRange = target.type === "range"; // its own keys are the arrows and Home
    if (key in ARROWS && !isRange) moveCursor(ARROWS[key]);
    else if (/^\d$/.test(key)) editor.setBrush({ target: key / 10, ...(editor.isStroke && { tool: "set" }) });
    else if (key === "[" || key === "]") editor.changeSize(key === "]" ? 0.5 : -0.5);
    else if (key === "Enter" && target === canvas) act();
    else if (key === "h") editor.view.mark({ hidden: true });
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
    const typing = target.matches("select, textarea, input:not([type=range])");
    if (key === " " && !typing) {
      space ??= "down";
      if (target === canvas) event.preventDefault();
    } else if (control && (!typing || key === "Enter")) {
      if (typing) target.blur(); // so that a note is taken over
      if (press(`Ctrl+${event.shiftKey ? "Shift+" : ""}${key}`, target)) event.preventDefault();
    } else if (!control && !typing && press(key, target)) event.preventDefault();
  });

  document.addEventListener("keyup", ({ key, target }) => {
    if (key.toLowerCase() === "h" && !editor.isHidden) editor.view.mark({ hidden: false });
    if (key !== " ") return;
    if (space === "down" && target === canvas) act();
    space = null;
  });
  // the key may be released in another window
  window.addEventListener("blur", () => editor.view.mark({ hidden: Boolean(editor.isHidden) }));
  canvas.addEventListener("blur", () => editor.cursor >= 0 && editor.show({ cursor: -1 }));
  return () => Boolean(space && (space = "used"));
}

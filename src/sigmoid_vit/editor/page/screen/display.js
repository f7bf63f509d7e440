// How the open image is shown; no number changes by it. The tab keeps what was chosen.

import { $ } from "../base/dom.js";
import { storage } from "../base/storage.js";
import { show } from "../work/state.js";

const kept = storage("session");

/** Take over what the tab kept, and follow the controls from here on. */
export function startDisplay() {
  $("fixed").checked = kept.get("fixed") === "true";
  $("fixed").addEventListener("input", change);
  change();
}

function change() {
  const isFixed = $("fixed").checked;
  kept.set("fixed", String(isFixed));
  show({ isFixed });
}

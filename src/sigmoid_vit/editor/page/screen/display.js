// How the open image is shown; no number changes by it. The tab keeps what was chosen.

import { get } from "../base/api.js";
import { $, t } from "../base/dom.js";
import { on } from "../base/events.js";
import { storage } from "../base/storage.js";
import { attempt } from "../work/fetching.js";
import { show, state } from "../work/state.js";

const kept = storage("session");
const controls = () => [...$("display").elements].filter(({ name }) => name);
const PROPERTY = { checkbox: "checked", range: "valueAsNumber" }; // what a control's choice is

on("opened", fetchOutline);
on("changed", showTexts);

/** Take over what the tab kept, and follow the controls from here on. */
export function startDisplay({ masks }) {
  const before = JSON.parse(kept.get("display") ?? "{}");
  for (const control of controls()) {
    const property = PROPERTY[control.type];
    control[property] = before[control.name] ?? control[property];
    control.addEventListener("input", change);
  }
  $("plain").addEventListener("click", () => {
    $("brightness").value = $("contrast").value = 1;
    change();
  });
  $("mask-choice").hidden = !masks;
  $("display").hidden = !("filter" in CanvasRenderingContext2D.prototype);
  change();
}

function change() {
  const display = Object.fromEntries(controls().map((it) => [it.name, it[PROPERTY[it.type]]]));
  kept.set("display", JSON.stringify(display));
  show({ display });
  fetchOutline();
}

async function fetchOutline() {
  const { grid, outline, display, session } = state;
  if (!grid || outline || !display.mask || !session.masks) return;
  const found = await attempt((k) => get(`images/${k}/outline`, {}, "arrayBuffer"));
  if (found) show({ outline: new Float32Array(found) });
}

function showTexts() {
  const { brightness, contrast, mask } = state.display;
  $("mask-text").textContent = t(mask && state.outline?.length === 0 ? "mask_none" : "mask");
  $("brightness-shown").textContent = brightness?.toFixed(2);
  $("contrast-shown").textContent = contrast?.toFixed(2);
  $("adjusted").hidden = isPlain(state.display);
}

const isPlain = ({ brightness, contrast }) => brightness === 1 && contrast === 1;

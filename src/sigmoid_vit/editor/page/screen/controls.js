// The buttons, fields and pickers: what each of them does.

import { errorText, get } from "../base/api.js";
import { $, ask, element, setLanguage, t, valuesOf } from "../base/dom.js";
import { storage } from "../base/storage.js";
import { change, revise, typeNote } from "../work/changes.js";
import { changeMap } from "../work/network.js";
import { openNext, openPrevious } from "../work/opening.js";
import { endStroke, fill, redo, repeat, resizeRegion, setBrush, undo } from "../work/painting.js";
import * as queue from "../work/queue.js";
import { show, state } from "../work/state.js";
import { openApplying } from "./applying.js";
import { showHistory } from "./revisions.js";

export function listenToControls(view) {
  const actions = {
    click: {
      undo,
      redo,
      repeat,
      reset: () => instead("delete"),
      accept: () => instead("accept"),
      reject: () => instead("delete"),
      "accept-next": () => (instead("accept"), openNext()),
      unchanged: () => (instead("unchanged"), openNext()),
      previous: openPrevious,
      next: openNext,
      skip,
      fill,
      query: () => state.session.class_token && changeMap("cls"),
      "region-keep": () => endStroke(),
      "zoom-in": () => view.zoom(1.25),
      "zoom-out": () => view.zoom(0.8),
      "zoom-fit": () => view.fit(),
      tools: ({ target: { dataset } }) => dataset.tool && setBrush({ tool: dataset.tool }),
      reasons: ({ target: { type, textContent: value } }) =>
        type === "button" && Object.assign($("skip-reason"), { value }).focus(),
      "to-picture": () => $("canvas").focus(),
      "help-open": () => $("help").showModal(),
      "apply-open": openApplying,
      "apply-close": () => $("apply").close(),
      "note-open": () => $("note").focus(),
      export: download,
      copy: copyCommand,
    },
    input: {
      brush: ({ target: { id, valueAsNumber } }) =>
        id === "region-size" ? resizeRegion(valueAsNumber) : setBrush({ [id]: valueAsNumber }),
      opacity: () => view.draw(),
      hide: () => view.draw(),
      note: () => typeNote($("note").value),
    },
    change: {
      "map-choice": () => changeMap(),
      scope: () => (endStroke(), revise({ scope: valuesOf($("scope")) })),
      note: () => (endStroke(), revise({ note: $("note").value.trim() })),
      author: () => $("author").reportValidity() && storage("local").set("author", $("author").value.trim()),
      language: changeLanguage,
      reviewing: () => (queue.changeRole(), show()),
    },
    toggle: { history: showHistory },
  };
  for (const [event, byId] of Object.entries(actions)) {
    for (const [id, action] of Object.entries(byId)) $(id).addEventListener(event, action);
  }
}

/** A change in place of what is open: that is dropped. */
function instead(kind) {
  endStroke(false);
  change(kind);
}

function changeLanguage() {
  storage("local").set("language", $("language").value);
  setLanguage($("language").value);
  queue.show();
  show();
  showHistory();
}

/** Skip the open image, if the person gives a reason. */
async function skip() {
  const { k, grid, note } = state;
  if (!grid) return;
  $("skip-reason").value = grid.count ? "" : note;
  const isSkipped = (await ask("skip-dialog")) === "skip";
  const reason = $("skip-reason").value.trim();
  if (!isSkipped || !reason || k !== state.k) return;
  endStroke(false);
  change("skip", { reason });
  await openNext();
}

async function download() {
  const [file] = state.session.edits.split(/[\\/]/).slice(-1);
  const name = `${file.replace(/\.[^.]*$/, "")}_export.zip`;
  const keep = (blob) => element("a", { href: URL.createObjectURL(blob), download: name }).click();
  $("exported").textContent = "…";
  const done = get("export", {}, "blob").then(keep);
  $("exported").textContent = await done.then(() => t("exported", { name }), errorText);
}

function copyCommand() {
  getSelection().selectAllChildren($("command"));
  if (document.execCommand("copy")) $("copy").textContent = t("copied"); // also without https
}

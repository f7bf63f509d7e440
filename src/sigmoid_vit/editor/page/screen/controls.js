// The buttons, fields and pickers: what each of them does.

import { errorText, get } from "../base/api.js";
import { $, ask, element, setLanguage, t, valuesOf } from "../base/dom.js";
import { storage } from "../base/storage.js";
import { change, revise, step, typeNote } from "../work/changes.js";
import { changeMap } from "../work/network.js";
import { openNext } from "../work/opening.js";
import { fill, setBrush, undo } from "../work/painting.js";
import * as queue from "../work/queue.js";
import { show, state } from "../work/state.js";
import { showHistory } from "./revisions.js";

export function listenToControls(view) {
  const actions = {
    click: {
      undo,
      redo: () => step(1),
      reset: () => change("delete"),
      accept: () => change("accept"),
      "accept-next": () => (change("accept"), openNext()),
      unchanged: () => (change("unchanged"), openNext()),
      reject: () => change("delete"),
      next: openNext,
      skip,
      fill,
      query: () => state.session.class_token && changeMap("cls"),
      "zoom-in": () => view.zoom(1.25),
      "zoom-out": () => view.zoom(0.8),
      "zoom-fit": () => view.fit(),
      tools: ({ target: { dataset } }) => dataset.tool && setBrush({ tool: dataset.tool }),
      reasons: ({ target: { type, textContent: value } }) =>
        type === "button" && Object.assign($("skip-reason"), { value }).focus(),
      "help-open": () => $("help").showModal(),
      "note-open": () => $("note").focus(),
      export: download,
      copy: copyCommand,
    },
    input: {
      brush: ({ target }) => setBrush({ [target.id]: target.valueAsNumber }),
      opacity: () => view.draw(),
      hide: () => view.draw(),
      note: () => typeNote($("note").value),
    },
    change: {
      "map-choice": () => changeMap(),
      scope: () => revise({ scope: valuesOf($("scope")) }),
      note: () => revise({ note: $("note").value.trim() }),
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

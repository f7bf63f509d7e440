// The revisions of the open image, and the conflict of two edits of one image.

import { get } from "../base/api.js";
import { $, ask, dateOf, element, t } from "../base/dom.js";
import { on } from "../base/events.js";
import { Grid } from "../numbers/grid.js";
import { restore, takeTheirs } from "../work/changes.js";
import { attempt, fetchGrid, fetchMaps, fetchPicture } from "../work/fetching.js";
import { endStroke } from "../work/painting.js";
import * as queue from "../work/queue.js";
import * as saving from "../work/saving.js";
import { state } from "../work/state.js";
import { scopeWords } from "./panels.js";
import { View } from "./view.js";

on("revised", showHistory);
on("saving", ({ kind, change, error }) => kind === "conflict" && resolve(change.id, error.theirs));

/** Show the revisions, if the person wants to see them. */
export async function showHistory() {
  if (!$("history").open) return;
  const found = await attempt((k) => get(`images/${k}/history`));
  if (!found) return;
  const rows = found.revisions.map((each, i) => {
    const onclick = () => (endStroke(), restore(each.revision));
    const button = element("button", { textContent: t("restore"), onclick, disabled: !i || each.deleted });
    return element("li", {}, element("span", { textContent: words("revision", each) }), button);
  });
  $("revisions").replaceChildren(...(rows.length ? rows : [element("li", { textContent: t("no_history") })]));
}

function words(name, { deleted, note, ...facts }) {
  const line = t(name, { ...facts, time: dateOf(facts.created) });
  return [line, deleted && t("deleted"), note].filter(Boolean).join(" · ");
}

/** Ask which of the two edits to keep; that one becomes the newest revision, after the other one. */
async function resolve(id, theirs) {
  const k = await queue.find(id).catch(() => null);
  const none = new Grid(state.session.grid);
  const [grid, picture, map] = await Promise.all([
    fetchGrid(k, theirs.deleted ? null : theirs.revision).catch(() => none),
    fetchPicture(k).catch(() => null),
    fetchMaps(k).catch(() => ({ shown: none.value })),
  ]);
  const mine = saving.waiting(id);
  $("conflict-image").textContent = id;
  showVersion("mine", { ...map, picture, grid: saving.gridOf(mine) }, mine.params);
  showVersion("theirs", { ...map, picture, grid }, theirs);
  let choice = "";
  while (!choice) choice = await ask("conflict"); // Esc decides nothing
  if (choice === "theirs") takeTheirs(id, theirs, grid);
  saving.decide();
}

/** @param facts of the revision */
function showVersion(name, drawn, facts) {
  const { session } = state;
  $(name).replaceChildren(element("canvas"));
  new View($(name).firstChild, { session, query: "cls", polygon: [], ...drawn });
  const part = (scope) => scopeWords(scope, String(facts[scope] ?? "all"), session);
  const cells = t("edited_cells", { count: drawn.grid.count });
  const lines = [words(name, facts), cells, ...["layers", "heads", "queries"].map(part)];
  $(`${name}-caption`).textContent = lines.join("\n");
}

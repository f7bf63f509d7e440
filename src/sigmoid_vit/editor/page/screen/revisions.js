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
import { fetchThumbnail, smallPicture } from "./small.js";
import { View } from "./view.js";

let pictures = { k: null }; // of the open image: {k, thumbnail, made: revision -> canvas}

on("revised", showHistory);
on("saving", ({ kind, change, error }) => kind === "conflict" && resolve(change.id, error.theirs));

/** Show the revisions, if the person wants to see them. */
export async function showHistory() {
  if (!$("history").open) return;
  const { k } = state;
  const found = await attempt(() => get(`images/${k}/history`));
  if (!found) return;
  const rows = found.revisions.map((each, i) => {
    const onclick = () => (endStroke(), restore(each.revision));
    const button = element("button", { textContent: t("restore"), onclick, disabled: !i || each.deleted });
    const who = element("b", { textContent: t("revision", { ...each, time: dateOf(each.created) }) });
    const what = [howWords(each), cellWords(each), each.note].filter(Boolean).join(" · ");
    const facts = element("span", {}, who, element("br"), what);
    return element("li", {}, pictureOf(k, each), facts, button);
  });
  $("revisions").replaceChildren(...(rows.length ? rows : [element("li", { textContent: t("no_history") })]));
}

/** The small picture of a revision, made once as long as its image is open. */
function pictureOf(k, { revision, deleted }) {
  if (pictures.k !== k) pictures = { k, thumbnail: fetchThumbnail(k), made: new Map() };
  const { made, thumbnail } = pictures;
  if (!made.has(revision)) made.set(revision, smallPicture(k, deleted ? null : revision, thumbnail));
  return made.get(revision);
}

/** How a revision came about: by hand, propagated, as an earlier one, ... */
const howWords = ({ how, same_as }) => t(`how_${how}`, { same_as });

/** How many cells it edits, and how many more, fewer and otherwise than the one before. */
function cellWords({ cells, added, removed, altered }) {
  const signs = [added && `+${added}`, removed && `−${removed}`, altered && `≠${altered}`].filter(Boolean);
  return t("edited_cells", { count: cells }) + (signs.length ? ` (${signs.join(" ")})` : "");
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

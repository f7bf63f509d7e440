// The next image of the list, fetched while a person looks at the open one. One image at most is kept.

import { post } from "../base/api.js";
import { $, valuesOf } from "../base/dom.js";
import { on } from "../base/events.js";
import { factsOf } from "./changes.js";
import { fetchImage } from "./fetching.js";
import { settled } from "./network.js";
import * as queue from "./queue.js";
import * as saving from "./saving.js";
import { state } from "./state.js";

const QUIET_MS = 100; // without a change of the open image, before anything is fetched
let kept = null; // {k, choice: of the map, facts: as fetchImage gives them, null if they cannot be used}
let asked = null; // {k, choice} that is being fetched
let timer = null;

on("changed", plan);
on("listed", plan);
on("kept", plan);
on("saved", ({ id }) => (kept = kept?.facts?.info.id === id ? null : kept));

const mapChoice = () => JSON.stringify(valuesOf($("map-choice")));

/** What was fetched of image k, to be used once; null if nothing was, or it does not hold any more. */
export function take(k) {
  const { k: there, choice, facts } = kept ?? {};
  kept = null;
  return facts && there === k && choice === mapChoice() && !saving.waiting(facts.info.id) ? facts : null;
}

function plan() {
  clearTimeout(timer);
  timer = setTimeout(fetchAhead, QUIET_MS);
}

async function fetchAhead() {
  const request = { k: queue.next(), choice: mapChoice() };
  const isSame = (other) => other?.k === request.k && other.choice === request.choice;
  if (request.k === undefined || !state.grid || isSame(kept) || isSame(asked)) return;
  asked = request;
  const waiting = saving.waitingNow(); // before the server is asked, as in opening.js
  const found = await fetchQuietly(request, waiting).catch(() => null);
  if (request !== asked) return;
  asked = null;
  kept = { ...request, facts: found && !waiting(found.info.id) ? found : null };
}

/** The facts about an image, one request after the other, each when no prediction is awaited. */
async function fetchQuietly(request, waiting) {
  const turn = async (earlier) => {
    await earlier;
    await settled();
    if (request !== asked || request.k !== queue.next()) throw new Error("another image is next");
  };
  const facts = await fetchImage(request.k, waiting, turn);
  const { info, grid } = facts;
  if (!grid.count) return facts;
  await turn();
  const { top } = await post(`images/${request.k}/predict`, factsOf(info).scope, grid.bytes);
  return { ...facts, top };
}

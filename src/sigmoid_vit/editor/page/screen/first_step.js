// A Step 2 run beside the run that it started from: what both predict for the open image.

import { errorText, get } from "../base/api.js";
import { $, t } from "../base/dom.js";
import { on } from "../base/events.js";
import { ofFirstStep } from "../work/fetching.js";
import { state } from "../work/state.js";
import { barsOf, twoAnswers } from "./panels.js";

let found = null; // {top}, or {error}; null while it is fetched

on("opened", fetchBefore);
on("changed", showBefore);

export function startFirstStep({ first_step: name }) {
  $("first-step").hidden = !name;
  if (!name) $("map").querySelector("[value=first_step]").remove();
  $("first-step").addEventListener("toggle", fetchBefore);
}

async function fetchBefore() {
  const { k, grid } = state;
  if (!grid || !$("first-step").open) return;
  found = null;
  showBefore();
  const response = await ofFirstStep(get(`images/${k}/first_step`)).catch((error) => ({ error }));
  if (k !== state.k) return;
  found = response;
  showBefore();
}

function showBefore() {
  const { top, error } = found ?? {};
  const name = state.session.first_step;
  $("first-answer").textContent = top ? twoAnswers("first_answers", top, { name }) : t("stale");
  if (error) $("first-answer").textContent = errorText(error);
  $("first-bars").replaceChildren(...(top && state.info ? barsOf(top) : []));
}

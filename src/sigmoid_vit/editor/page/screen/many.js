// Accepting many propagated edits at once: those above a confidence, after a look at some of them.

import { errorText, get, post } from "../base/api.js";
import { $, ask, element, t } from "../base/dom.js";
import { author } from "../work/changes.js";
import { say } from "../work/fetching.js";
import * as queue from "../work/queue.js";
import { state } from "../work/state.js";
import { open } from "../work/opening.js";
import { smallPicture } from "./small.js";

const QUIET_MS = 200; // after the last move of the slider
let counted = null; // {total, through} of the confidence that is shown
let timer = null;

export function listenToAcceptMany() {
  $("accept-many").addEventListener("click", show);
  $("another-sample").addEventListener("click", count);
  $("confidence").addEventListener("input", () => {
    showCount(null);
    clearTimeout(timer);
    timer = setTimeout(count, QUIET_MS);
  });
}

const confidence = () => $("confidence").valueAsNumber.toFixed(2);

async function show() {
  count();
  if ((await ask("many-dialog")) !== "accept" || !counted) return;
  const params = { author: author(), confidence: confidence(), through: counted.through };
  const done = await post("accept_all", params, {}).catch((error) => ({ error }));
  const text = done.error ? t("not_saved", { error: errorText(done.error) }) : t("accepted_many", done);
  await queue.load("again");
  if (state.info?.status === "propagated") await open(state.k);
  say(text);
}

/** Count the edits that reach the confidence, and show some of them. */
async function count() {
  const asked = confidence();
  showCount(null);
  const found = await get("propagated", { confidence: asked }).catch((error) => ({ error }));
  if (asked !== confidence()) return;
  if (found.error) return void ($("many-count").textContent = errorText(found.error));
  showCount(found);
  $("many-sample").replaceChildren(...found.sample.map(figure));
}

function showCount(found) {
  counted = found;
  $("confidence-shown").textContent = confidence();
  $("many-count").textContent = found ? t("many_count", found) : "…";
  $("many-accept").disabled = !found?.total;
  $("many-accept").textContent = t("accept_these", { total: found?.total ?? "…" });
}

function figure({ k, id, revision }) {
  const caption = element("figcaption", { textContent: id.split("/").pop(), title: id });
  return element("figure", {}, smallPicture(k, revision), caption);
}

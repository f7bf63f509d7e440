// Starts the page: token, language, the facts about the run, and then every part.

import { errorText, get, shareToken, takeToken } from "./base/api.js";
import { $, indices, setLanguage, t } from "./base/dom.js";
import { on } from "./base/events.js";
import { startAnew } from "./base/leaving.js";
import { openDrafts, storage } from "./base/storage.js";
import { startCloseUp } from "./screen/close_up.js";
import { listenToControls } from "./screen/controls.js";
import { startDisplay } from "./screen/display.js";
import { startFirstStep } from "./screen/first_step.js";
import { listenToKeys } from "./screen/keys.js";
import { listenToAcceptMany } from "./screen/many.js";
import "./screen/panels.js";
import { listenToPointer } from "./screen/pointer.js";
import { listenToReviews } from "./screen/reviews.js";
import { View } from "./screen/view.js";
import { choose, open } from "./work/opening.js";
import * as queue from "./work/queue.js";
import * as saving from "./work/saving.js";
import { set, state } from "./work/state.js";
import * as team from "./work/team.js";

takeToken();
window.addEventListener("hashchange", startAnew);
setLanguage(storage("local").get("language") ?? (navigator.language.startsWith("ja") ? "ja" : "en"));
await get("session").then(start, (error) => {
  const textContent = error.status === 401 ? t("no_token") : errorText(error);
  Object.assign($("gate"), { textContent, hidden: false });
});

async function start(session) {
  set({ session });
  showSession(session);
  saving.start(await openDrafts(session.work));
  const view = new View($("canvas"), state);
  on("opened", () => view.fit());
  on("opened", () => $("frame").scrollIntoView({ block: "nearest" })); // from far down on a small screen
  on("changed", () => view.draw());
  on("grid", () => view.draw());
  queue.start(session, choose);
  shareToken(); // now, as the drafts of the tabs that it starts anew are theirs
  listenToControls(view);
  startDisplay(session);
  startCloseUp(view);
  startFirstStep(session);
  listenToReviews();
  listenToAcceptMany();
  listenToPointer(view, listenToKeys(view));
  saving.resume();
  const last = storage("session").get("image");
  if (last !== null && Number(last) < session.images) await open(Number(last));
  await queue.load("first");
  team.start();
}

function showSession({ run, split, author, command, layers, heads, classes }) {
  $("main").hidden = false;
  $("run").textContent = $("run").title = `${run} · ${split}`;
  Object.assign($("author"), { placeholder: author, value: storage("local").get("author") ?? author });
  $("command").textContent = command;
  $("layer").append(...indices(layers).map((i) => new Option(i, i)));
  $("layer").value = layers - 1;
  $("head").append(...indices(heads).map((i) => new Option(i)));
  for (const id of ["explained", "against"]) $(id).append(...classes.map((name, i) => new Option(name, i)));
}

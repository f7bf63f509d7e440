// What others have to do with the open image: a reviewer's word, and who has it open or has saved it.

import { $, ask, element, t } from "../base/dom.js";
import { on } from "../base/events.js";
import { author, change } from "../work/changes.js";
import { choose, isOvertaken, openNext } from "../work/opening.js";
import * as queue from "../work/queue.js";
import { waiting } from "../work/saving.js";
import { state } from "../work/state.js";

on("changed", showReview);
on("changed", showCompany);
on("team", showPeople);
on("team", showCompany);

export function listenToReviews() {
  $("approve").addEventListener("click", () => review("approve"));
  $("send-back").addEventListener("click", sendBack);
  $("reopen").addEventListener("click", () => choose(state.k));
}

/** Save a review of the open image, which is no state for undo, and go on. */
function review(kind, facts = {}) {
  change(kind, facts, false);
  return openNext();
}

async function sendBack() {
  const { k } = state;
  $("send-back-reason").value = "";
  const isSent = (await ask("send-back-dialog")) === "send";
  const reason = $("send-back-reason").value.trim();
  if (isSent && reason && k === state.k) await review("send_back", { reason });
}

/** The reviewer's buttons, or what a reviewer said. */
function showReview() {
  const { info } = state;
  const edit = waiting(info.id) ? null : info.edit;
  const isReviewed = edit && queue.role() === "review" && info.status !== "propagated";
  const isOwn = edit?.author === author();
  $("verdict").hidden = !isReviewed;
  $("approve").disabled = $("send-back").disabled = isOwn;
  $("verdict-text").textContent = isReviewed ? t(isOwn ? "own_edit" : "edit_by", edit) : "";
  const said = edit?.review;
  $("sent-back").hidden = !said?.reason;
  $("sent-back").textContent = said?.reason ? t("sent_back_by", said) : "";
}

/** Who is here, with the image that each has open. */
function showPeople() {
  const file = (image) => image?.split("/").pop() ?? "";
  const people = new Map(queue.others().map((each) => [`${each.author}\n${each.image}`, each]));
  const chip = ({ author: name, image }) => {
    const parts = [element("b", { textContent: name }), ` ${file(image)}`];
    return element("li", { title: image ?? "" }, ...parts);
  };
  $("people").replaceChildren(...Array.from(people.values(), chip));
  $("people").hidden = !queue.others().length;
}

/** Say what others do with the open image; not above it, where the canvas would move under a stroke. */
function showCompany() {
  const { k } = state;
  const here = queue.others().filter(({ open }) => open === k);
  const said = [...new Set(here.map((each) => t("open_at", each)))];
  if (isOvertaken()) said.unshift(t("overtaken", queue.latestOf(k)));
  $("company-text").textContent = said.join(" ");
  $("company").hidden = !said.length;
  $("reopen").hidden = !isOvertaken();
}

// The dialog that lays one edit over many images, lets a person look at each, and saves it on those ticked.

import { errorText, get } from "../base/api.js";
import { $, element, t } from "../base/dom.js";
import { applier, candidates, savedEdit, takeBack } from "../work/applying.js";
import { attempt, say } from "../work/fetching.js";
import { endStroke } from "../work/painting.js";
import { state } from "../work/state.js";
import { View } from "./view.js";

const CLEAR = { low: -1, high: 1, isSigned: true }; // a scale on which the map itself is not seen

/** Open the dialog for the edit of the open image. */
export async function openApplying() {
  endStroke();
  const [k, revision] = [state.k, savedEdit()];
  if (!revision) return say(t("apply_nothing"));
  const found = await attempt(candidates);
  if (!found) return;
  const shown = new Float32Array(state.grid.value.length);
  const drawn = {
    session: state.session,
    grid: state.grid.copy(),
    shown,
    scale: CLEAR,
    query: "cls",
    polygon: [],
  };
  const rows = found.items.map((item) => row(item, drawn));
  $("apply-title").textContent = t("apply_title", { id: state.info.id });
  $("apply-left").textContent = found.left ? t("apply_left", { count: found.left }) : "";
  $("apply-items").replaceChildren(...rows.map(({ label }) => label));
  const ticked = () => rows.filter(({ box }) => box.checked).map(({ item }) => item);
  const count = () => {
    $("apply-save").textContent = t("apply_save", { count: ticked().length });
    $("apply-save").disabled = !ticked().length;
  };
  let apply = null; // what is sent again if there was no response
  $("apply-items").oninput = () => ((apply = null), count());
  $("apply-save").onclick = async () => {
    apply ??= applier(k, revision, ticked());
    await attemptIn(async () => showResult(rows, await apply()));
  };
  showButtons(false);
  $("apply-result").textContent = "";
  count();
  $("apply").showModal();
  for (const each of rows) if ($("apply").open) await each.draw();
}

/** A picture under the edit with its box, ticked unless somebody has worked on the image. */
function row(item, drawn) {
  const box = element("input", { type: "checkbox", checked: item.status === "todo" });
  const canvas = element("canvas");
  const name = element("span", { className: "name", textContent: item.id, title: item.id });
  const status = t(`status_${item.status}`) + (item.author ? ` · ${item.author}` : "");
  const mark = element("span", { className: "pill warn", textContent: item.status === "todo" ? "" : status });
  const label = element("label", {}, canvas, element("span", { className: "inline" }, box, name), mark);
  async function draw() {
    const blob = await get(`images/${item.k}/thumbnail`, {}, "blob").catch(() => null);
    const picture = blob && (await createImageBitmap(blob).catch(() => null));
    new View(canvas, { ...drawn, picture });
  }
  return { item, box, mark, label, draw };
}

/** Say on each image what came of it, and offer to take all of it back. */
function showResult(rows, { saved, refused }) {
  for (const { box, item, mark } of rows) {
    const no = refused.find(({ k }) => k === item.k);
    box.disabled = true;
    if (saved.some(({ k }) => k === item.k))
      Object.assign(mark, { className: "pill good", textContent: t("apply_saved") });
    if (no) Object.assign(mark, { className: "pill bad", textContent: refusal(item, no) });
  }
  const facts = { saved: saved.length, refused: refused.length };
  $("apply-result").textContent = t(refused.length ? "apply_some" : "apply_done", facts);
  showButtons(true);
  $("apply-undo").onclick = () =>
    attemptIn(async () => {
      await takeBack(saved);
      $("apply-result").textContent = t("apply_undone");
      $("apply-undo").hidden = true;
    });
}

const refusal = ({ id }, { author }) =>
  author === null ? t("unreadable", { id }) : t("apply_theirs", { author });

function showButtons(isDone) {
  $("apply-save").hidden = isDone;
  $("apply-undo").hidden = !isDone;
}

/** Do it, and say why if it fails; nothing is sent twice at a time. */
async function attemptIn(action) {
  const buttons = [$("apply-save"), $("apply-undo")];
  for (const button of buttons) button.disabled = true;
  await action().catch(
    (error) => ($("apply-result").textContent = t("not_saved", { error: errorText(error) })),
  );
  for (const button of buttons) button.disabled = false;
}

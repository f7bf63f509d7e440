// A photograph larger than its overview: the part that is looked at is fetched by its own pixels.

import { get } from "../base/api.js";
import { $, t } from "../base/dom.js";
import { on } from "../base/events.js";
import { covers, closeUpOf } from "../numbers/close_up.js";
import { show, state } from "../work/state.js";

const QUIET_MS = 150; // without a movement, before anything is fetched
let timer = null;
let asking = new AbortController();

export function startCloseUp(view) {
  view.painted = () => {
    clearTimeout(timer);
    timer = setTimeout(look, QUIET_MS, view);
  };
  on("changed", showShrink);
}

async function look(view) {
  const { k, info, picture, grid, closeUp } = state;
  if (!grid || picture.width >= info.size[0]) return;
  const { visible, shown } = view.visible();
  const region = closeUpOf({ size: info.size, overview: picture.width, visible, shown });
  if (!region) return void (closeUp && show({ closeUp: null }));
  if (closeUp && covers(closeUp, region, visible, info.size)) return;
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const bitmap = await get(`images/${k}/close_up`, region, "blob", [signal])
    .then(createImageBitmap)
    .catch(() => null);
  if (bitmap && !signal.aborted && k === state.k && state.grid) show({ closeUp: { ...region, bitmap } });
}

/** Say how many pixels of the photograph become one on the screen. */
function showShrink() {
  const { info, picture, closeUp } = state;
  const [width, height] = info.size;
  const shrink = closeUp?.shrink ?? (width / picture.width).toFixed(1).replace(/\.0$/, "");
  $("photo").hidden = picture.width >= width;
  $("photo").textContent = `${width} × ${height}, 1 : ${shrink}`;
  $("photo").title = t("photo_hint", { shrink });
}

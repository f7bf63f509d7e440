// The list of images to work through: order, filters, thumbnails, progress.

import { errorText, get } from "../base/api.js";
import { $, element, t, valuesOf } from "../base/dom.js";
import { storage } from "../base/storage.js";

const [PAGE, MAX_PAGE] = [100, 1000]; // images fetched at a time
const POLL_MS = 1500; // while predictions are missing
const thumbnails = {}; // image number -> address
const inSight = new IntersectionObserver((entries) => loadVisible(entries), { root: $("items") });

let classes = []; // names
let openImage = null; // (k)
let items = []; // of the list, as far as it is fetched
let isWhole = false; // nothing is left to fetch
let newest = null; // request of the list
let response = null; // {total, ready, progress} for the whole list
let chosen = null; // number of an image
let timer = null;
let loading = Promise.resolve(); // of thumbnails

/** @param open(k) called when an image is chosen */
export function start(session, open) {
  ({ classes } = session);
  openImage = open;
  const orders = [...$("order")]; // a copy, as options are removed
  for (const option of orders) if (!session.orders.includes(option.value)) option.remove();
  $("class-filter").append(...classes.map((name, i) => new Option(name, i)));
  $("order").value = storage("session").get("order") ?? session.orders[0];
  if (!$("order").value) $("order").value = session.orders[0]; // the one kept is not offered any more
  $("filters").addEventListener("input", () => load("first"));
}

/** Fetch the list: its "first" page, its "next", or "again" as far as it goes. The newest request wins. */
export async function load(what) {
  clearTimeout(timer);
  storage("session").set("order", $("order").value);
  const limit = what === "again" ? Math.min(MAX_PAGE, Math.max(PAGE, items.length)) : PAGE;
  const before = what === "next" ? items : [];
  const params = (newest = { ...valuesOf($("filters")), after: before.at(-1)?.k ?? "", limit });
  const found = await get("queue", params).catch((error) => ({ error }));
  if (params !== newest) return;
  if (found.error || found.ready < 1) timer = setTimeout(() => load("again"), POLL_MS);
  if (found.error) return void ($("queue-state").textContent = errorText(found.error));
  response = found;
  items = [...before, ...found.items];
  isWhole = found.items.length < limit;
  show();
  if (chosen === null && items.length) openImage(items[0].k);
  else if (chosen === null && found.ready === 1 && $("order").value === "errors") {
    $("order").value = "mixed"; // there are no errors
    await load("first");
  }
}

/** The next image after the chosen one that is neither done nor skipped; null at the end. */
export async function next() {
  for (let i = items.findIndex(({ k }) => k === chosen) + 1; ; i++) {
    if (i >= items.length && !isWhole) await load("next");
    if (i >= items.length) return null;
    if (["todo", "propagated"].includes(items[i].status)) return items[i].k;
  }
}

/** The number of any image; undefined if the data set has none of this id. */
export async function find(id) {
  const isIt = (item) => item.id === id;
  const search = [...id].slice(-200).join(""); // as much as the server takes
  const ask = () => get("queue", { order: "name", search, limit: MAX_PAGE });
  return (items.find(isIt) ?? (await ask()).items.find(isIt))?.k;
}

export const nameOf = (k) => items.find((item) => item.k === k)?.id ?? "";

export function choose(k) {
  chosen = k;
  $("items").querySelector("[aria-current=true]")?.setAttribute("aria-current", false);
  buttonOf(k)?.setAttribute("aria-current", true);
  buttonOf(k)?.scrollIntoView({ block: "nearest" });
}

/** An image's status after a save. */
export function setStatus(id, status) {
  const item = items.find((other) => other.id === id);
  if (!item) return void load("again"); // not in the list: fetch the progress
  if (item.status === status) return;
  const { progress } = response;
  if (item.status === $("status-filter").value) response.total--;
  if (item.status in progress) progress[item.status]--;
  if (status in progress) progress[status]++;
  item.status = status;
  show();
}

export function show() {
  if (!response) return;
  const { progress, total, ready } = response;
  $("progress-text").textContent = t("progress", progress);
  Object.assign($("progress-bar"), { max: progress.images, value: progress.done + progress.skipped });
  const states = [total || ready < 1 ? t(total === 1 ? "match" : "matches", { total }) : t("no_matches")];
  if (ready < 1) states.push(t("computing", { percent: Math.floor(100 * ready) }));
  $("queue-state").textContent = states.join(" · ");
  const focused = $("items").querySelector(":focus");
  inSight.disconnect();
  $("items").replaceChildren(...items.map(row));
  for (const each of $("items").children) inSight.observe(each);
  if (focused) buttonOf(focused.value)?.focus({ preventScroll: true });
}

const buttonOf = (k) => $("items").querySelector(`[value="${k}"]`);

function row({ k, id, label, prediction, confidence, status }) {
  const name = (i) => (i === null ? "…" : classes[i]);
  const sure = confidence === null ? "" : ` ${Math.round(100 * confidence)} %`;
  const facts = { value: k, title: id, onclick: () => openImage(k), ariaCurrent: k === chosen };
  const parts = [
    element("img", { alt: "", src: thumbnails[k] ?? "data:," }),
    element("span", { className: "name", textContent: id.split("/").slice(-2).join("/") }),
    element("span", { className: "classes", textContent: `${name(label)} → ${name(prediction)}${sure}` }),
    element("span", { className: `mark ${status}`, role: "img", ariaLabel: t(`status_${status}`) }),
  ];
  return element("li", {}, element("button", facts, ...parts));
}

/** Thumbnails of what comes into sight, one at a time, so that predictions and saves find a connection. */
function loadVisible(entries) {
  for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
    const showNext = () => target.isConnected && showThumbnail(target.firstChild);
    loading = loading.then(showNext).catch(() => {}); // it has none
    if (target === $("items").lastChild && !isWhole) load("next");
  }
}

async function showThumbnail({ value: k, firstChild: image }) {
  thumbnails[k] ??= URL.createObjectURL(await get(`images/${k}/thumbnail`, {}, "blob"));
  image.src = thumbnails[k];
}

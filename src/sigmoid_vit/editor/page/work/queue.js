// The list of images to work through: order, filters, thumbnails, progress.

import { errorText, get } from "../base/api.js";
import { $, element, t, valuesOf } from "../base/dom.js";
import { emit } from "../base/events.js";
import { Rows } from "../base/rows.js";
import { storage } from "../base/storage.js";

const AHEAD = 50; // images before and behind the rows in sight whose items are fetched with them
const FOUND = 100; // items that come with the list
const KEPT = 300; // thumbnails
const POLL_MS = 1500; // while predictions are missing; twice as long for every 10,000 images
const STATUSES = {
  t: "todo",
  d: "done",
  u: "unchanged",
  s: "skipped",
  p: "propagated",
  a: "accepted",
  b: "sent_back",
};
const WANTED = {
  edit: ["todo", "propagated", "sent_back"],
  review: ["done", "unchanged", "skipped"],
}; // what Next leads to, by the person's role
const items = new Map(); // image number -> what its row says
const numbers = new Map(); // id -> image number, of these
const thumbnails = new Map(); // image number -> address, or "" if it has none

let classes = []; // names
let openImage = null; // (k)
let rows = null; // of the list, those that can be seen
let images = []; // their numbers, in the order of the list
let statuses = []; // of these
let fetched = new Set(); // images whose items are those of this list, with all predictions there are
let newest = null; // request of the list
let response = null; // {total, ready, progress} for the whole list
let chosen = null; // number of an image
let people = []; // the others, see team.py
let opened = new Map(); // image number -> who has it open; and the images that are kept for others
let keptForOthers = new Set();
let keptImage; // the next image, kept for this page; null if there is none, undefined if that is not known
const latest = new Map(); // image number -> {revision, author}: what others, too, have saved
let timer = null;
const busy = { items: false, thumbnails: false }; // what is being fetched, one request at a time

/** @param open(k) called when an image is chosen */
export function start(session, open) {
  ({ classes } = session);
  openImage = open;
  const orders = [...$("order")]; // a copy, as options are removed
  for (const option of orders) if (!session.orders.includes(option.value)) option.remove();
  $("class-filter").append(...classes.map((name, i) => new Option(name, i)));
  $("predicted").append(...classes.map((name, i) => new Option(name, i)));
  $("order").value = storage("session").get("order") ?? session.orders[0];
  if (!$("order").value) $("order").value = session.orders[0]; // the one kept is not offered any more
  $("filters").addEventListener("input", () => load("first"));
  rows = new Rows($("items"), { make: row, fill, drawn: fetchMissing });
}

/** Fetch the list: to show its "first" rows, or "again" while it is looked at. The newest request wins. */
export async function load(what) {
  clearTimeout(timer);
  storage("session").set("order", $("order").value);
  const params = (newest = { ...filters(), limit: FOUND });
  const found = await get("queue", params).catch((error) => ({ error }));
  if (params !== newest) return;
  const wait = POLL_MS * (1 + images.length / 10_000);
  if (found.error || found.ready < 1) timer = setTimeout(() => load("again"), wait);
  if (found.error) return void ($("queue-state").textContent = errorText(found.error));
  const stop = stopImage();
  const place = response ? 0 : found.images.indexOf(chosen); // at the start, the image that was open last
  response = found;
  keptImage = undefined;
  ({ images } = found);
  statuses = Array.from(found.statuses, (letter) => STATUSES[letter]);
  fetched = new Set();
  keep(found.items);
  showAuthors();
  showState();
  rows.reset(images.length, placeOf(stop));
  if (what === "first") rows.reveal(Math.max(0, place));
  emit("listed");
  if (chosen === null && images.length) openImage(images[0]);
  else if (chosen === null && found.ready === 1 && $("order").value === "errors") {
    $("order").value = "mixed"; // there are no errors
    await load("first");
  }
}

/** Take over the items of a response. */
function keep(found) {
  for (const item of found) {
    items.set(item.k, item);
    numbers.set(item.id, item.k);
    fetched.add(item.k);
  }
}

export const isThere = () => response !== null;

/** What the list is narrowed to; the answer is right, wrong or a predicted class. */
function filters() {
  const { answer, ...others } = valuesOf($("filters"));
  return { ...others, ...(/^\d+$/.test(answer) ? { predicted: answer } : { answer }) };
}

export const role = () => ($("reviewing").checked ? "review" : "edit");
export const revision = () => response?.revision ?? 0; // the newest one of the store that is shown
export const others = () => people;
export const latestOf = (k) => latest.get(k);
export const kept = () => (keptImage !== null && !isFree(keptImage) ? undefined : keptImage);

/** The images after the chosen one that are to be worked on, whoever has them open. */
export function candidates() {
  const place = placeOf(chosen);
  return images.filter((_, i) => i > place && WANTED[role()].includes(statuses[i]));
}

/** The next one of them that is nobody else's; undefined at the end. */
export const next = () => (kept() === undefined ? candidates().find(isFree) : (keptImage ?? undefined));

const isFree = (k) =>
  WANTED[role()].includes(statuses[placeOf(k)]) && !opened.has(k) && !keptForOthers.has(k);

/** Whether somebody else has image k open or has finished it. */
export const isTaken = (k) => opened.has(k) || (latest.has(k) && !isFree(k));

/** The person edits now, or reviews. */
export function changeRole() {
  keptImage = undefined;
  emit("listed");
}

/** Take over what the server tells of the others; `about`: the image that was open when it was asked. */
export function takeOver(told, about) {
  const before = [next(), ...opened.keys()];
  ({ people } = told);
  opened = new Map(people.map((each) => [each.open, each.author]));
  keptForOthers = new Set(people.map((each) => each.next));
  if (about === chosen) keptImage = told.next;
  for (const [k, letter, saved, author] of told.changed) {
    latest.set(k, { revision: saved, author });
    setStatusOf(k, STATUSES[letter]);
  }
  if (response) Object.assign(response, { ...told, people: undefined });
  showAuthors();
  showState();
  for (const k of [...before.slice(1), ...opened.keys()]) rows.refresh(placeOf(k));
  if (next() !== before[0]) emit("kept");
  emit("team");
}

/** The numbers of the images in the list, in its order. */
export const listed = () => images;

/** The image above the chosen one; undefined at the top. */
export const above = () => images[placeOf(chosen) - 1];

/** The number of any image; undefined if the data set has none of this id. */
export async function find(id) {
  const search = [...id].slice(-200).join(""); // as much as the server takes
  if (!numbers.has(id)) keep((await get("queue", { order: "name", search, limit: 1000 })).items);
  return numbers.get(id);
}

export const nameOf = (k) => items.get(k)?.id ?? "";

export function choose(k) {
  const before = placeOf(chosen);
  chosen = k;
  keptImage = undefined;
  rows.refresh(before);
  rows.refresh(placeOf(k));
  rows.choose(placeOf(k));
}

/** An image's status after a save. */
export function setStatus(id, status) {
  const place = placeOf(numbers.get(id));
  if (place < 0) return void load("again"); // not in the list: fetch the progress
  const before = statuses[place];
  if (before === status) return;
  const { progress } = response;
  if (before in progress) progress[before]--;
  if (status in progress) progress[status]++;
  setStatusOf(images[place], status);
  showState();
}

function setStatusOf(k, status) {
  const place = placeOf(k);
  if (place < 0 || statuses[place] === status) return;
  if (statuses[place] === $("status-filter").value) response.total--;
  statuses[place] = status;
  rows.refresh(place);
}

/** Show everything anew, in another language. */
export function show() {
  showState();
  rows.reset(images.length, placeOf(stopImage()));
}

function showState() {
  if (!response) return;
  const { progress, total, ready } = response;
  const { images: max, skipped, accepted, sent_back } = progress;
  const done = progress.done + progress.unchanged + accepted;
  const reviews = { accepted, sent_back };
  const more = Object.keys(reviews).map((name) => reviews[name] && t(`progress_${name}`, reviews));
  $("progress-text").textContent = [t("progress", { ...progress, done }), ...more].filter(Boolean).join(", ");
  Object.assign($("progress-bar"), { max, value: done + skipped });
  $("accept-many").hidden = !progress.propagated;
  const states = [total || ready < 1 ? t(total === 1 ? "match" : "matches", { total }) : t("no_matches")];
  if (ready < 1) states.push(t("computing", { percent: Math.floor(100 * ready) }));
  $("queue-state").textContent = states.join(" · ");
}

/** Let the authors there are be chosen from. */
function showAuthors() {
  const select = $("author-filter");
  const [first, ...names] = Array.from(select.options, ({ value }) => value);
  const { authors } = response ?? {};
  if (!authors || String(names) === String(authors)) return;
  const { value } = select;
  const given = value && !authors.includes(value) ? [...authors, value] : authors;
  select.replaceChildren(select.options[0], ...given.map((name) => new Option(name)));
  select.value = value ?? first;
}

const placeOf = (k) => images.indexOf(k);
/** The image whose row Tab leads to: the one with the focus, or else the open one. */
const stopImage = () => Number($("items").querySelector(":focus")?.value ?? chosen);

function row() {
  const part = (className) => element("span", { className });
  const mark = element("span", { role: "img" });
  const person = element("span", { className: "person", role: "img" });
  const facts = element("span", { className: "classes" }, part("sides"), part("number"));
  const parts = [element("img", { alt: "" }), part("name"), facts, mark, person];
  const onclick = () => openImage(Number(button.value));
  const button = element("button", { role: "option", onclick }, ...parts);
  return element("li", { role: "none" }, button);
}

/** Let a row show an image; what the server has not said of it yet is left open. */
function fill({ firstChild: button }, place) {
  const k = images[place];
  const { id = "…", label = null, prediction = null, confidence = null } = items.get(k) ?? {};
  const [image, name, facts, mark, person] = button.children;
  const className = (i) => (i === null ? "…" : classes[i]);
  const sure = confidence === null ? "" : ` ${Math.round(100 * confidence)} %`; // also beside a long name
  Object.assign(button, { value: k, title: id, ariaCurrent: k === chosen, ariaSelected: k === chosen });
  name.textContent = id.split("/").slice(-2).join("/");
  facts.firstChild.textContent = `${className(label)} → ${className(prediction)}`;
  facts.lastChild.textContent = sure;
  const status = statuses[place];
  Object.assign(mark, { className: `mark ${status}`, ariaLabel: t(`status_${status}`) });
  const who = opened.get(k);
  const title = who ? t("open_at", { author: who }) : "";
  Object.assign(person, { textContent: [...(who ?? "")][0] ?? "", title, ariaLabel: title, hidden: !who });
  const thumbnail = thumbnails.get(k);
  if (!thumbnail) image.removeAttribute("src"); // no picture, rather than a broken one
  else if (image.src !== thumbnail) image.src = thumbnail; // to set it again would make it flash
}

/** Fetch what the rows in sight lack; each kind one at a time, so that others find a connection. */
function fetchMissing() {
  fetchEach("items", fetchItems);
  fetchEach("thumbnails", fetchThumbnail);
}

/** Go on with `fetchOne` as long as it resolves to true, or later if it fails. */
async function fetchEach(what, fetchOne) {
  if (busy[what]) return;
  busy[what] = true;
  while (await fetchOne().catch(() => void setTimeout(fetchMissing, POLL_MS)));
  busy[what] = false;
}

async function fetchItems() {
  const isMissing = (k) => !fetched.has(k) && (items.get(k)?.prediction ?? null) === null;
  const [first, end] = rows.inSight();
  if (!images.slice(first, end).some(isMissing)) return false;
  const missing = images.slice(Math.max(0, first - AHEAD), end + AHEAD).filter(isMissing);
  const asked = images;
  keep((await get("items", { images: missing.join() })).items);
  if (asked === images) for (const k of missing) rows.refresh(placeOf(k));
  return true;
}

async function fetchThumbnail() {
  const [first, end] = rows.inSight();
  const k = images.slice(first, end).find((each) => !thumbnails.has(each));
  if (k === undefined) return false;
  const found = await get(`images/${k}/thumbnail`, {}, "blob").catch((error) => error);
  if (found.status === 0) throw found; // no response
  thumbnails.set(k, found instanceof Blob ? URL.createObjectURL(found) : "");
  const [oldest] = thumbnails.keys();
  if (thumbnails.size > KEPT) URL.revokeObjectURL(thumbnails.get(oldest));
  if (thumbnails.size > KEPT) thumbnails.delete(oldest);
  rows.refresh(placeOf(k));
  return true;
}

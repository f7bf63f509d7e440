// Others who work on this store: what they have open and did, and the next image, kept for this page alone.

import { post } from "../base/api.js";
import { on } from "../base/events.js";
import { randomId } from "../numbers/saver.js";
import { author } from "./changes.js";
import * as queue from "./queue.js";
import { state } from "./state.js";

const EVERY_MS = 2000;
const PATIENCE_MS = 1500; // with a server that does not respond
const WANTED = 100; // images among which the server chooses the next one
const page = randomId();
let turn = Promise.resolve(); // one request at a time
let waiting = null; // the request that has not begun yet
let timer = null;
let isAway = false; // the page is left; it may be shown again

/** Say that this page is here, again and again, until it is left. */
export function start() {
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", () => ((isAway = false), announce()));
  document.addEventListener("visibilitychange", announce); // a hidden page speaks seldom
  on("listed", announce);
  announce();
}

/** Say what is open, and learn what others do. */
export const announce = () => (turn = waiting ??= turn.then(ask));

/** The image to go on to, which no other page has; undefined at the end of the list. */
export async function reserve() {
  if (queue.kept() === undefined) await Promise.race([announce(), pause(PATIENCE_MS)]);
  return queue.next();
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function ask() {
  waiting = null;
  clearTimeout(timer);
  if (isAway) return;
  for (let first = 0, isOver = false; !isOver; first += WANTED) {
    const images = queue.candidates().slice(first, first + WANTED);
    const { k } = state;
    const about = { open: k ?? "", role: queue.role(), since: queue.revision() };
    const told = await post("here", { page, author: author(), images, ...about }, {}).catch(() => null);
    isOver = !told || told.next !== null || images.length < WANTED;
    if (told) queue.takeOver(told, k);
  }
  timer = setTimeout(announce, EVERY_MS);
}

function leave() {
  isAway = true;
  post("leave", { page }, {}, true).catch(() => null);
}

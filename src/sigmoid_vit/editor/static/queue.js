// The list of images to work through: order, filters, thumbnails, progress.

import { getBlob, getJson } from "./api.js";
import { $, element, options } from "./dom.js";
import { storage } from "./storage.js";
import { t } from "./texts.js";

const [PAGE, MAX_PAGE] = [100, 1000]; // images fetched at a time
const POLL_MS = 1500; // while the network has not looked at all images
const MARKS = { done: "✓", skipped: "–", predicted: "?", todo: "" };
const FILTERS = { order: "order", "class-filter": "class", "status-filter": "status", search: "search" };

export class Queue {
  /** @param open(k) called when an image is chosen */
  constructor(session, open) {
    Object.assign(this, { session, open, items: [], k: null, thumbnails: new Map() });
    this.thumbnailsDone = Promise.resolve();
    this.showFilters();
    $("order").value = storage("session").get("order") ?? session.orders[0];
    for (const id of Object.keys(FILTERS)) $(id).addEventListener("input", () => this.load("first"));
    this.seen = new IntersectionObserver((entries) => this.#visible(entries), { root: $("items") });
  }

  showFilters() {
    const { orders, classes } = this.session;
    options($("order"), orders.map((order) => [order, t(`order_${order}`)]));
    options($("class-filter"), [["", t("any_class")], ...classes.map((name, i) => [i, name])]);
    $("search").placeholder = t("search");
    if (this.answer) this.#show(this.answer);
  }

  /** Fetch the list: its "first" page, its "next", or "again" as far as it goes. The newest request wins. */
  async load(what = "first") {
    clearTimeout(this.timer);
    storage("session").set("order", $("order").value);
    const request = (this.request = Symbol("newest"));
    const { length } = this.items;
    const limit = what === "again" ? Math.min(MAX_PAGE, Math.max(PAGE, length)) : PAGE;
    const params = { offset: what === "next" ? length : 0, limit };
    for (const [id, name] of Object.entries(FILTERS)) if ($(id).value) params[name] = $(id).value;
    const answer = await getJson("queue", params).catch((error) => ({ error }));
    if (request !== this.request) return;
    if (!answer.error) {
      this.items = what === "next" ? [...this.items, ...answer.items] : answer.items;
      this.#show(answer);
      if (this.k === null && this.items.length) this.open(this.items[0].k);
    }
    if (answer.error || answer.ready < 1) this.timer = setTimeout(() => this.load("again"), POLL_MS);
  }

  /** The next image after the chosen one that is neither done nor skipped; null at the end. */
  async next() {
    for (let i = this.items.findIndex((item) => item.k === this.k) + 1; ; i++) {
      if (i >= this.items.length) await this.load("next");
      if (i >= this.items.length) return null;
      if (["todo", "predicted"].includes(this.items[i].status)) return this.items[i].k;
    }
  }

  choose(k) {
    $("items").querySelector("[aria-current=true]")?.setAttribute("aria-current", "false");
    this.k = k;
    const button = $("items").querySelector(`[data-k="${k}"]`);
    button?.setAttribute("aria-current", "true");
    button?.scrollIntoView({ block: "nearest" });
  }

  /** An image's status after a save. */
  setStatus(k, status) {
    const item = this.items.find((other) => other.k === k);
    if (!item) return void this.load("again"); // not in the list: fetch the progress
    if (item.status === status) return;
    const { progress } = this.answer;
    for (const [name, by] of [[item.status, -1], [status, 1]]) if (name in progress) progress[name] += by;
    item.status = status;
    this.#show(this.answer);
  }

  #show(answer) {
    this.answer = answer;
    const { progress, total, ready } = answer;
    $("progress-text").textContent = t("progress", progress);
    $("progress-bar").max = Math.max(1, progress.images);
    $("progress-bar").value = progress.done + progress.skipped;
    const states = [total || ready < 1 ? t("matches", { total }) : t("no_matches")];
    if (ready < 1) states.push(t("computing", { percent: Math.floor(100 * ready) }));
    $("queue-state").textContent = states.join(" · ");
    const focused = document.activeElement?.dataset.k;
    this.seen.disconnect();
    $("items").replaceChildren(...this.items.map((item) => this.#row(item)));
    for (const row of $("items").children) this.seen.observe(row);
    if (focused) $("items").querySelector(`[data-k="${focused}"]`)?.focus({ preventScroll: true });
  }

  #row(item) {
    const { classes } = this.session;
    const name = (i) => (i === null ? "…" : classes[i]);
    const sure = item.confidence === null ? "" : ` ${Math.round(100 * item.confidence)} %`;
    const answer = `${name(item.label)} → ${name(item.prediction)}${sure}`;
    const isCurrent = String(item.k === this.k);
    const button = element(
      "button",
      { title: item.id, onclick: () => this.open(item.k), "data-k": item.k, "aria-current": isCurrent },
      element("img", { alt: "", src: this.thumbnails.get(String(item.k)) ?? "data:," }),
      element("span", { className: "name", textContent: item.id.split("/").slice(-2).join("/") }),
      element("span", { className: "answer", textContent: answer }),
      element("span", { className: "mark", textContent: MARKS[item.status], "aria-hidden": "true" }),
      element("span", { className: "hidden-text", textContent: t(`status_${item.status}`) }),
    );
    return element("li", {}, button);
  }

  /** Thumbnails of what comes into sight, one at a time, so that predictions and saves find a connection. */
  #visible(entries) {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      const fetchNext = () => target.isConnected && this.#showThumbnail(target.firstChild);
      this.thumbnailsDone = this.thumbnailsDone.then(fetchNext);
      if (target === $("items").lastChild && this.items.length < this.answer.total) this.load("next");
    }
  }

  async #showThumbnail({ dataset: { k }, firstChild: image }) {
    const blob = this.thumbnails.has(k) ? null : await getBlob(`images/${k}/thumbnail`).catch(() => null);
    if (blob) this.thumbnails.set(k, URL.createObjectURL(blob));
    if (this.thumbnails.has(k)) image.src = this.thumbnails.get(k);
  }
}

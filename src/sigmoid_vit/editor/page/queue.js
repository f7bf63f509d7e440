// The list of images to work through: order, filters, thumbnails, progress.

import { errorText, get } from "./api.js";
import { $, element, t, valuesOf } from "./dom.js";
import { storage } from "./storage.js";

const [PAGE, MAX_PAGE] = [100, 1000]; // images fetched at a time
const POLL_MS = 1500; // while the network has not looked at all images
const buttonOf = (k) => $("items").querySelector(`[value="${k}"]`);

export class Queue {
  /** @param open(k) called when an image is chosen */
  constructor(session, open) {
    Object.assign(this, { session, open, items: [], k: null, thumbnails: {}, loading: Promise.resolve() });
    for (const option of [...$("order")]) if (!session.orders.includes(option.value)) option.remove();
    $("class-filter").append(...session.classes.map((name, i) => new Option(name, i)));
    $("order").value = storage("session").get("order") ?? session.orders[0];
    $("filters").addEventListener("input", () => this.load("first"));
    this.seen = new IntersectionObserver((entries) => this.#visible(entries), { root: $("items") });
  }
  /** Fetch the list: its "first" page, its "next", or "again" as far as it goes. The newest request wins. */
  async load(what = "first") {
    clearTimeout(this.timer);
    storage("session").set("order", $("order").value);
    const limit = what === "again" ? Math.min(MAX_PAGE, Math.max(PAGE, this.items.length)) : PAGE;
    const before = what === "next" ? this.items : [];
    const params = (this.newest = { ...valuesOf($("filters")), after: before.at(-1)?.k ?? "", limit });
    const answer = await get("queue", params).catch((error) => ({ error }));
    if (params !== this.newest) return;
    if (answer.error || answer.ready < 1) this.timer = setTimeout(() => this.load("again"), POLL_MS);
    if (answer.error) return void ($("queue-state").textContent = errorText(answer.error));
    const { items } = Object.assign(this, { answer, items: [...before, ...answer.items] });
    this.isWhole = answer.items.length < limit;
    this.show();
    if (this.k === null && items.length) this.open(items[0].k);
    else if (this.k === null && answer.ready === 1 && $("order").selectedIndex === 0) {
      $("order").selectedIndex = 1; // there are no errors
      await this.load();
    }
  }
  /** The next image after the chosen one that is neither done nor skipped; null at the end. */
  async next() {
    for (let i = this.items.findIndex((item) => item.k === this.k) + 1; ; i++) {
      if (i >= this.items.length && !this.isWhole) await this.load("next");
      if (i >= this.items.length) return null;
      if (["todo", "predicted"].includes(this.items[i].status)) return this.items[i].k;
    }
  }
  /** The number of any image; undefined if the data set has none of this id. */
  async find(id) {
    const isIt = (item) => item.id === id;
    const search = [...id].slice(-200).join(""); // as much as the server takes
    const ask = () => get("queue", { order: "name", search, limit: MAX_PAGE });
    return (this.items.find(isIt) ?? (await ask()).items.find(isIt))?.k;
  }

  nameOf(k) { return this.items.find((item) => item.k === k)?.id ?? ""; }

  choose(k) {
    this.k = k;
    $("items").querySelector("[aria-current=true]")?.setAttribute("aria-current", false);
    buttonOf(k)?.setAttribute("aria-current", true);
    buttonOf(k)?.scrollIntoView({ block: "nearest" });
  }
  /** An image's status after a save. */
  setStatus(id, status) {
    const item = this.items.find((other) => other.id === id);
    if (!item) return void this.load("again"); // not in the list: fetch the progress
    if (item.status === status) return;
    const { progress } = this.answer;
    if (item.status === $("status-filter").value) this.answer.total--;
    for (const [name, by] of [[item.status, -1], [status, 1]]) if (name in progress) progress[name] += by;
    item.status = status;
    this.show();
  }

  show() {
    if (!this.answer) return;
    const { progress, total, ready } = this.answer;
    $("progress-text").textContent = t("progress", progress);
    Object.assign($("progress-bar"), { max: progress.images, value: progress.done + progress.skipped });
    const states = [total || ready < 1 ? t(total === 1 ? "match" : "matches", { total }) : t("no_matches")];
    if (ready < 1) states.push(t("computing", { percent: Math.floor(100 * ready) }));
    $("queue-state").textContent = states.join(" · ");
    const focused = $("items").querySelector(":focus");
    this.seen.disconnect();
    $("items").replaceChildren(...this.items.map((item) => this.#row(item)));
    for (const row of $("items").children) this.seen.observe(row);
    if (focused) buttonOf(focused.value)?.focus({ preventScroll: true });
  }

  #row({ k, id, label, prediction, confidence, status }) {
    const name = (i) => (i === null ? "…" : this.session.classes[i]);
    const sure = confidence === null ? "" : ` ${Math.round(100 * confidence)} %`;
    const facts = { value: k, title: id, onclick: () => this.open(k), ariaCurrent: k === this.k };
    return element("li", {}, element("button", facts,
      element("img", { alt: "", src: this.thumbnails[k] ?? "data:," }),
      element("span", { className: "name", textContent: id.split("/").slice(-2).join("/") }),
      element("span", { className: "answer", textContent: `${name(label)} → ${name(prediction)}${sure}` }),
      element("span", { className: `mark ${status}`, role: "img", ariaLabel: t(`status_${status}`) })));
  }
  /** Thumbnails of what comes into sight, one at a time, so that predictions and saves find a connection. */
  #visible(entries) {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      const showNext = () => target.isConnected && this.#showThumbnail(target.firstChild);
      this.loading = this.loading.then(showNext).catch(() => {}); // it has none
      if (target === $("items").lastChild && !this.isWhole) this.load("next");
    }
  }

  async #showThumbnail({ value: k, firstChild: image }) {
    this.thumbnails[k] ??= URL.createObjectURL(await get(`images/${k}/thumbnail`, {}, "blob"));
    image.src = this.thumbnails[k];
  }
}

// The open image: its numbers, what is done to them, and what of it is saved.

import { errorText, failure, get, post } from "./api.js";
import { $, t, valuesOf } from "./dom.js";
import { fillPolygon, Grid, Stroke } from "./grid.js";
import { Queue } from "./queue.js";
import { GONE, Saver, UndoList } from "./saver.js";
import * as page from "./show.js";
import { storage } from "./storage.js";
import { View } from "./view.js";

/** A scope as pickers and server take it, all of it text: "all", "last", "cls" or indices with commas. */
const scopeOf = (facts) =>
  Object.fromEntries(["layers", "heads", "queries"].map((name) => [name, String(facts[name] ?? "all")]));

export class Editor {
  /** @param work names the run, the split and the store; drafts: see openDrafts */
  constructor(session, work, drafts) {
    Object.assign(this, { session, work, k: null, grid: null, point: null, polygon: [], query: "cls" });
    Object.assign(this, { chosenScope: scopeOf(session.scope), steps: Promise.resolve() });
    this.brush = { tool: "set", target: 0, size: 1, softness: 0 };
    this.snapshots = new Map(); // revision, or client id until it has one -> {grid, scope, note}
    this.view = new View($("canvas"), this);
    this.saver = new Saver(drafts, this);
    this.queue = new Queue(session, (k) => (k !== this.k || !this.grid) && this.open(k));
  }

  async open(k) {
    this.endStroke();
    Object.assign(this, { k, grid: null, polygon: [], cursor: null });
    this.query = this.session.class_token ? "cls" : "0";
    this.queue.choose(k);
    storage("session").set("image", k);
    const { pending } = this.saver; // as it was before the server is asked, lest a save come between
    const found = await this.#attempt(async () => {
      const info = await get(`images/${k}`);
      const waiting = this.saver.waiting(info.id, pending);
      const grid = waiting ? this.#gridOf(waiting) : await this.#fetchGrid(k, info.edit?.revision);
      const maps = await this.#fetchMaps(k);
      return { info, waiting, grid, picture: await this.#fetchPicture(k), top: info.top, ...maps };
    });
    if (k !== this.k || this.grid) return;
    const { waiting, ...shown } = found ?? { picture: null };
    Object.assign(this, shown);
    this.view.fit();
    page.showImage(Boolean(found), this.queue.nameOf(k));
    if (!found) return;
    const { info } = this;
    this.undo = this.#keptUndo(info.id);
    const isOld = !waiting && this.undo.newest !== info.newest; // somebody else has saved this image
    if (isOld) this.undo = new UndoList({ entries: [info.edit?.revision ?? null], newest: info.newest });
    this.show(this.#facts(info));
    this.predict();
    this.loadHistory();
    this.#say(info.of_another_image ? t("of_another_image", info.of_another_image) : "");
  }

  async #fetchPicture(k) { return createImageBitmap(await get(`images/${k}/picture`, {}, "blob")); }
  /** The network's own attention as chosen: `own`, where strokes start, and `shown`, which may be rollout. */
  async #fetchMaps(k) {
    const params = { ...valuesOf($("look")), query: this.query };
    const fetchMap = async (view) =>
      new Float32Array(await get(`images/${k}/attention`, { ...params, view }, "arrayBuffer"));
    const [own, shown = own] = await Promise.all([...new Set(["sigmoid", params.view])].map(fetchMap));
    return { own, shown };
  }
  /** Layer, head, map or query changed. */
  async changeMap(query = this.query) {
    this.query = query;
    const request = (this.mapRequest = Symbol("newest"));
    const maps = await this.#attempt((k) => this.#fetchMaps(k));
    if (maps && request === this.mapRequest) this.show(maps);
  }

  get isStroke() { return !["view", "inside", "outside"].includes(this.brush.tool); }
  setBrush(facts) {
    Object.assign(this.brush, facts);
    this.show("tool" in facts ? { polygon: [] } : {});
  }

  startStroke(point) {
    if (!this.grid) return;
    this.stroke = new Stroke(this.grid, this.own, this.brush);
    this.moveStroke(point);
  }

  moveStroke(point) {
    if (!this.stroke) return;
    this.stroke.to(point);
    this.show({}, page.showGrid);
    this.predict();
  }
  /** Keep the stroke, or take it back. */
  endStroke(isKept = true) {
    const before = this.stroke?.before;
    this.stroke = null;
    if (before && !isKept) this.grid = before;
    if (before) this.#saveIfChanged(before);
  }
  /** A click, or Enter on the cell cursor: paint, add a corner, or look from a patch, as the tool says. */
  act(point) {
    if (!this.grid || !point) return;
    const cell = this.grid.cellAt(point);
    if (this.isStroke) {
      this.startStroke(point);
      this.endStroke();
    } else if (this.brush.tool !== "view") this.show({ polygon: [...this.polygon, point] });
    else if (cell >= 0) this.changeMap(String(cell));
  }
  /** Close the polygon and fill it. */
  fill() {
    if (this.polygon.length < 3) return;
    const before = this.grid.copy();
    fillPolygon(this.grid, this.polygon.splice(0), this.brush.target, this.brush.tool === "inside");
    this.#saveIfChanged(before);
  }

  #saveIfChanged(before) {
    if (!before.equals(this.grid)) return this.change(this.grid.count ? "edit" : "delete");
    this.predict();
    this.show();
  }
  /** The note changed, or the scope, for the next images as well: an edit that is there is saved with it. */
  revise(facts) {
    if (facts.scope) this.chosenScope = facts.scope;
    this.show(facts);
    if (this.grid?.count) this.change("edit");
    else if (this.grid && "note" in facts) this.#keepNote(this.info.id, facts.note);
  }
  /** Go back to a revision, a change on its way, or null: no edit; `by`: a step of undo (-1) or redo (1). */
  async restore(target, by = 0) {
    const { undo, stroke } = this;
    const kept = this.snapshots.get(target);
    const grid = kept?.grid.copy() ?? (await this.#attempt((k) => this.#fetchGrid(k, target)));
    if (!grid || stroke || undo !== this.undo || (by && undo.peek(by) !== target)) return;
    undo.move(by);
    Object.assign(this, kept, { grid });
    this.change(target === null ? "delete" : "restore", { target }, !by);
  }
  step(by) {
    const isThere = () => this.grid && this.undo.peek(by) !== undefined;
    this.steps = this.steps.then(() => isThere() && this.restore(this.undo.peek(by), by));
  }

  async skip() {
    const { k } = this;
    const reason = this.grid && (await page.askReason(this.grid.count ? "" : this.note));
    if (!reason || k !== this.k) return;
    this.change("skip", { reason });
    await this.next();
  }
  async next() {
    const k = await this.queue.next();
    return k === null ? this.#say(t("queue_end")) : this.open(k);
  }
  /** Ask for the prediction, one request at a time: what changes meanwhile is asked for after the answer. */
  async predict() {
    $("stale").textContent = t("stale");
    if (this.isPredicting) return;
    this.isPredicting = true;
    const question = () => [this.k, JSON.stringify(this.scope), this.grid?.bytes].join();
    for (let asked; this.grid && asked !== question(); ) {
      asked = question(); // the end of a stroke asks nothing new
      const { k, grid, scope } = this;
      const answer = await post(`images/${k}/predict`, scope, grid.bytes).catch((error) => ({ error }));
      if (asked !== question()) continue;
      if (!answer.error) this.top = answer.top;
      $("stale").textContent = answer.error ? t("prediction_failed", { error: errorText(answer.error) }) : "";
      page.showPrediction(this.info.label, this.top, this.session.classes);
    }
    this.isPredicting = false;
  }
  /** Save a change of any `kind` the server takes: a state for undo unless it is a step of undo or redo. */
  change(kind, facts = {}, isState = true) {
    if (!this.grid) return;
    if (kind === "delete" || kind === "skip") this.grid = new Grid(this.session.grid);
    const { grid, scope, note, undo, info: { id } } = this;
    const author = ($("author").validity.valid && $("author").value.trim()) || this.session.author;
    const params = kind === "edit" ? { author, ...scope, note } : { author };
    const change = { kind, id, params, base: undo.newest ?? null, grid: Array.from(grid.bytes), ...facts };
    const clientId = this.saver.add(change);
    this.snapshots.set(clientId, { grid: grid.copy(), scope, note });
    if (isState) undo.push(kind === "delete" ? null : clientId);
    if (["edit", "skip"].includes(kind)) this.#keepNote(id, "");
    this.#keepUndo(id, undo);
    this.predict();
    this.show();
  }
  /** For the saver, as are the next three: see there. */
  async send({ kind, id, params, grid, reason, target, base, client_id }) {
    const k = await this.queue.find(id);
    if (k === undefined) throw failure(GONE, { error: t("gone", { id }) });
    const body = kind === "edit" ? Uint8Array.from(grid) : { reason };
    const facts = { ...params, base: base ?? "none", client_id, revision: target ?? "" };
    return post(`images/${k}/${kind}`, facts, body);
  }

  async acknowledged({ id, kind, client_id, params }, { revision, status }) {
    const isOpen = () => this.grid && id === this.info.id;
    if (this.snapshots.has(client_id)) this.snapshots.set(revision, this.snapshots.get(client_id));
    const undo = isOpen() ? this.undo : this.#keptUndo(id);
    undo.resolve(client_id, revision);
    this.#keepUndo(id, undo);
    this.queue.setStatus(id, status);
    if (!isOpen() || this.saver.waiting(id)) return;
    const edited = { ...this.info, edit: params, status };
    const info = kind === "edit" ? edited : await get(`images/${this.k}`).catch(() => this.info);
    if (!isOpen()) return;
    this.show(this.#facts(info));
    if (kind !== "edit") this.predict(); // the scope may be another one
    this.loadHistory();
  }
  /** What was painted stays on the screen. */
  refused({ id, kind }) { if (id === this.info?.id && kind !== "edit") this.open(this.k); }

  saverChanged(state) {
    page.showSaved(state);
    if (state.kind === "conflict") this.#resolve(state.change.id, state.error.theirs);
  }

  async #resolve(id, theirs) {
    const [k, { session }] = [await this.queue.find(id).catch(() => null), this];
    const none = new Grid(session.grid);
    const [other, picture, { own }] = await Promise.all([
      this.#fetchGrid(k, theirs?.deleted ? null : theirs?.revision).catch(() => none),
      this.#fetchPicture(k).catch(() => null), this.#fetchMaps(k).catch(() => ({ own: none.value }))]);
    const mine = this.saver.waiting(id);
    const version = (grid, facts) => ({ session, picture, shown: own, grid, facts });
    const keep = await page.askConflict(id, version(this.#gridOf(mine), mine.params), version(other, theirs));
    this.saver.decide(keep);
    if (!keep && k === this.k) this.open(k);
  }
  /** The server's facts about an image, and the scope and the note of its edit. */
  #facts(info) {
    const edit = this.saver.waiting(info.id)?.params ?? info.edit ?? {};
    const isSkipped = info.status === "skipped"; // then the note is the reason
    const scope = "layers" in edit && !isSkipped ? scopeOf(edit) : this.chosenScope;
    const note = (!isSkipped && edit.note) || (storage("local").get(`note.${this.work}.${info.id}`) ?? "");
    return { info, scope, note };
  }

  #say(text) { Object.assign($("stage-message"), { textContent: text, hidden: !text }); }
  #keptUndo(id) { return new UndoList(JSON.parse(storage("local").get(`undo.${this.work}.${id}`) ?? "{}")); }
  #keepNote(id, note) { storage("local").set(`note.${this.work}.${id}`, note); } // until there is an edit
  #keepUndo(id, undo) { storage("local").set(`undo.${this.work}.${id}`, JSON.stringify(undo)); }
  #gridOf({ grid }) { return new Grid(this.session.grid, Uint8Array.from(grid).buffer); }
  /** The grid of a revision, empty if there is none. */
  async #fetchGrid(k, revision) {
    const bytes = revision ? await get(`images/${k}/edit`, { revision }, "arrayBuffer") : undefined;
    return new Grid(this.session.grid, bytes);
  }
  /** Show the revisions, if the person wants to see them. */
  async loadHistory() {
    if (!$("history").open) return;
    const found = await this.#attempt((k) => get(`images/${k}/history`));
    if (found) page.showHistory(found.revisions, (revision) => this.restore(revision));
  }
  /** What the action returns; undefined when it fails, and then the page says why, or comes too late. */
  async #attempt(action) {
    const { k } = this;
    this.#say("");
    const found = await action(k).catch((error) => {
      if (k === this.k) this.#say(t("not_loaded", { error: errorText(error, this.queue.nameOf(k)) }));
    });
    return k === this.k ? found : undefined;
  }
  /** Take over `facts`, and bring everything on the page into line, or what only the grid changes. */
  show(facts = {}, showIt = page.showEditor) {
    Object.assign(this, facts);
    if (this.grid) showIt(this);
  }
  hover(point) { this.show({ point }, page.showGrid); } // of the pointer over the grid; null without it
}

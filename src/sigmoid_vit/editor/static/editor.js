// The open image: its numbers, what is done to them, and what of it is saved.

import { errorText, getBlob, getBytes, getJson, post } from "./api.js";
import { FILLS, showEditor, showGrid, showReadout, showSaved } from "./display.js";
import { $ } from "./dom.js";
import { fillPolygon, Grid, Stroke } from "./grid.js";
import { askConflict, askReason, readScope, scopeText, showHistory, showPrediction } from "./panels.js";
import { Latest, Saver } from "./saver.js";
import { storage } from "./storage.js";
import { t } from "./texts.js";
import { UndoList } from "./undo.js";

export class Editor {
  /** @param work names run, split and store; drafts: see openDrafts. `queue` is set before the first open. */
  constructor(session, view, work, drafts) {
    Object.assign(this, { session, view, work, k: null, grid: null, point: null });
    Object.assign(this, { query: "cls", polygon: [], cursor: -1, note: "", snapshots: new Map() });
    [this.rows, this.columns] = session.grid;
    this.brush = { tool: "set", target: 0, size: 1, softness: 0 };
    this.scope = session.scope;
    this.predictions = new Latest((request, isNewest) => this.#predict(request, isNewest));
    this.saver = new Saver(drafts, this);
  }

  async open(k) {
    this.endStroke();
    const query = this.session.class_token ? "cls" : "0";
    Object.assign(this, { k, grid: null, query, polygon: [], cursor: -1 });
    $("review").hidden = true;
    this.queue.choose(k);
    storage("session").set("image", k);
    const waiting = this.saver.waiting(k);
    const found = await this.#attempt(async () => {
      const info = await getJson(`images/${k}`);
      const stored = info.edit && !waiting ? await this.#fetchGrid(k, info.edit.revision) : this.#grid();
      const picture = await createImageBitmap(await getBlob(`images/${k}/picture`));
      const grid = waiting ? this.#gridOf(waiting) : stored;
      return { info, grid, picture, maps: await this.#fetchMaps(k) };
    });
    if (k !== this.k || this.grid) return;
    if (!found) return this.view.setPicture(null, [1, 1], this.rows, this.columns);
    const { info, grid, picture, maps } = found;
    this.saver.newest.set(k, Math.max(info.newest ?? 0, this.saver.newest.get(k) ?? 0) || null);
    this.undo = this.#keptUndo(k);
    if (!waiting && this.undo.newest !== info.newest) this.undo = new UndoList([info.edit?.revision ?? null]);
    this.view.setPicture(picture, info.size, this.rows, this.columns);
    this.show({ grid, ...maps, after: info, ...this.#facts(info, k) });
    if (grid.count) this.predict();
    if (info.warning) this.#say(info.warning);
  }

  /** The network's own attention as chosen: `own`, where strokes start, and `shown`, which may be rollout. */
  async #fetchMaps(k) {
    const params = { layer: $("layer").value, head: $("head").value, query: this.query };
    const fetchMap = async (view) =>
      new Float32Array(await getBytes(`images/${k}/attention`, { ...params, view }));
    const own = await fetchMap("sigmoid");
    return { own, shown: $("map").value === "sigmoid" ? own : await fetchMap($("map").value) };
  }

  /** Layer, head, map or query changed. */
  async changeMap(query = this.query) {
    this.query = query;
    const choice = () => [this.k, this.query, $("layer").value, $("head").value, $("map").value].join();
    const chosen = choice();
    const maps = await this.#attempt(() => this.#fetchMaps(this.k));
    if (maps && chosen === choice()) this.show(maps);
  }

  get isStroke() { return this.brush.tool !== "view" && !FILLS.includes(this.brush.tool); }

  setBrush(facts) {
    Object.assign(this.brush, facts);
    this.show("tool" in facts ? { polygon: [] } : {});
  }

  changeSize(by) { this.setBrush({ size: Math.min(12, Math.max(1, this.brush.size + by)) }); }

  startStroke(point) {
    if (!this.grid) return;
    this.stroke = new Stroke(this.grid, this.own, this.brush);
    this.last = point;
    this.moveStroke(point);
  }

  moveStroke(point) {
    if (!this.stroke) return;
    this.stroke.line(this.last, point);
    this.last = point;
    showGrid(this);
    this.predict();
  }

  endStroke() {
    const { stroke } = this;
    this.stroke = null;
    if (stroke) this.#saveIfChanged(stroke.before);
  }

  cancelStroke() {
    this.stroke?.cancel();
    this.stroke = null;
    this.predict();
    this.show();
  }

  /** A click, or Enter on the cell cursor: paint, add a corner, or look from a patch, as the tool says. */
  act(point) {
    const cell = this.grid ? this.grid.cellAt(point) : -1;
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
    fillPolygon(this.grid, this.polygon, this.brush.target, this.brush.tool === "inside");
    this.polygon = [];
    this.#saveIfChanged(before);
  }

  reset() { if (this.grid?.count) this.#change("delete"); }

  chooseScope() {
    const [layers, heads, queries] = ["layers", "heads", "queries"].map((name) => $(`scope-${name}`).value);
    this.revise({ scope: readScope({ layers, heads, queries }) });
  }

  /** The scope or the note changed: an edit that is there is saved with it. */
  revise(facts) {
    Object.assign(this, facts);
    if (this.grid?.count) this.#change("edit");
    else this.show();
  }

  /** Undo (-1) or redo (1). */
  async step(by) {
    const { undo, k } = this;
    const entry = undo?.peek(by);
    if (entry === undefined || !this.grid || this.stroke) return;
    const isStep = () => k === this.k && undo.peek(by) === entry && (undo.move(by), true);
    if (entry !== null) await this.restore(entry, isStep);
    else if (isStep()) this.#change("delete", {}, false);
  }

  /** Go back to a revision; `isStep`: of undo or redo, and still wanted when the revision was fetched. */
  async restore(target, isStep = null) {
    const { k } = this;
    const fetchState = async () => ({ grid: await this.#fetchGrid(k, target) });
    const state = this.snapshots.get(target) ?? (await this.#attempt(fetchState));
    if (!state || k !== this.k || (isStep && !isStep())) return;
    Object.assign(this, state, { grid: state.grid.copy() });
    this.#change("restore", { target }, !isStep);
  }

  async skip() {
    const { k } = this;
    const reason = this.grid && (await askReason());
    if (!reason || k !== this.k) return;
    this.#change("skip", { reason });
    await this.next();
  }

  /** Accept or reject a predicted edit. */
  review(accept) { if (this.grid) this.#change(accept ? "accept" : "delete"); }

  async next() {
    const k = await this.queue.next();
    if (k !== null) await this.open(k);
    else this.#say(t("queue_end"));
  }

  hide() {
    this.isHidden = !this.isHidden;
    this.view.mark({ hidden: this.isHidden });
    $("hide").setAttribute("aria-pressed", String(this.isHidden));
  }

  predict() {
    $("prediction").classList.add("is-stale");
    $("stale").textContent = t("stale");
    this.predictions.request({ k: this.k, bytes: this.grid.toBytes(), params: this.#scopeParams() });
  }

  async #predict({ k, bytes, params }, isNewest) {
    const answer = await post(`images/${k}/predict`, params, bytes).catch((error) => ({ error }));
    if (k !== this.k || !isNewest()) return;
    if (!answer.error) this.after = answer;
    $("prediction").classList.toggle("is-stale", Boolean(answer.error));
    $("stale").textContent = answer.error ? t("prediction_failed", { error: errorText(answer.error) }) : "";
    showPrediction(this.info, this.after, this.session.classes);
  }

  #saveIfChanged(before) {
    if (before.equals(this.grid)) this.show();
    else if (this.grid.count) this.#change("edit");
    else this.#change("delete");
  }

  /** Queue a change to be saved; it becomes a state for undo unless it is a step of undo or redo. */
  #change(kind, facts = {}, isState = true) {
    if (kind === "delete" || kind === "skip") this.grid = this.#grid();
    const params = { author: $("author").value.trim() || this.session.author };
    if (kind === "edit") Object.assign(params, this.#scopeParams(), { note: this.note });
    const id = this.saver.add({ kind, k: this.k, params, grid: this.grid.toText(), ...facts });
    this.snapshots.set(id, { grid: this.grid.copy(), scope: this.scope, note: this.note });
    if (isState) this.undo.push(kind === "delete" ? null : id);
    this.#keepUndo(this.k, this.undo, this.saver.newest.get(this.k) ?? null);
    this.predict();
    this.show();
  }

  /** For the saver: send a change. */
  send({ kind, k, target, params, grid, reason, base, client_id }) {
    const facts = { ...params, base: base ?? "none", client_id };
    if (kind === "restore") facts.revision = target;
    const body = kind === "edit" ? this.#gridOf({ grid }).toBytes() : kind === "skip" ? { reason } : {};
    return post(`images/${k}/${kind}`, facts, body);
  }

  /** For the saver: a change is saved. */
  async acknowledged({ k, kind, client_id, params }, { revision, created, status }) {
    if (this.snapshots.has(client_id)) this.snapshots.set(revision, this.snapshots.get(client_id));
    const undo = k === this.k && this.grid ? this.undo : this.#keptUndo(k);
    undo.resolve(client_id, revision);
    this.#keepUndo(k, undo, revision);
    this.queue.setStatus(k, status);
    if (k !== this.k || !this.grid || this.saver.waiting(k)) return;
    const edit = { ...this.scope, note: this.note, revision, created, author: params.author };
    const isEdit = kind === "edit";
    const known = { ...this.info, edit, status };
    const info = isEdit ? known : await getJson(`images/${k}`).catch(() => this.info);
    if (k !== this.k || !this.grid) return;
    this.show(this.#facts(info, k));
    if (!isEdit) this.predict(); // the scope may be another one
    if ($("history").open) this.loadHistory();
  }

  /** For the saver: a change was refused and given up; what was painted stays on the screen. */
  refused({ k, kind }) { if (k === this.k && kind !== "edit") this.open(k); }

  /** For the saver: its state is another one. */
  saverChanged({ kind, change, theirs }) {
    showSaved(this.saver.state);
    if (kind === "conflict") this.#resolve(change.k, theirs);
  }

  async #resolve(k, theirs) {
    const { own } = await this.#fetchMaps(k).catch(() => ({ own: this.#grid().value }));
    const isThere = theirs && !theirs.deleted;
    const grid = isThere ? await this.#fetchGrid(k, theirs.revision).catch(() => null) : null;
    const mine = this.#gridOf(this.saver.waiting(k)).over(own);
    const keep = await askConflict(mine, (grid ?? this.#grid()).over(own), theirs, this.session.grid);
    this.saver.decide(keep);
    if (!keep && k === this.k) this.open(k);
  }

  /** The server's facts about an image, and the scope and the note of its edit. */
  #facts(info, k) {
    const draft = this.saver.waiting(k)?.params;
    if (draft) return draft.layers ? { info, scope: readScope(draft), note: draft.note } : { info };
    const { layers, heads, queries, note } = info.edit ?? { ...this.scope, note: "" };
    return { info, scope: { layers, heads, queries }, note };
  }

  #keptUndo(k) {
    const { entries, position, newest } = JSON.parse(storage("local").get(`undo.${this.work}.${k}`) ?? "{}");
    return Object.assign(new UndoList(entries, position), { newest });
  }

  #keepUndo(k, { entries, position }, newest) {
    storage("local").set(`undo.${this.work}.${k}`, JSON.stringify({ entries, position, newest }));
  }

  #grid() { return new Grid(this.rows, this.columns); }
  #gridOf({ grid }) { return Grid.fromText(grid, this.rows, this.columns); }

  #scopeParams() {
    const { layers, heads, queries } = this.scope;
    return { layers: scopeText(layers), heads: scopeText(heads), queries };
  }

  async #fetchGrid(k, revision) {
    return Grid.fromBytes(await getBytes(`images/${k}/edit`, { revision }), this.rows, this.columns);
  }

  async loadHistory() {
    const { k } = this;
    const found = await this.#attempt(() => getJson(`images/${k}/history`));
    if (found && k === this.k) showHistory(found.revisions, (revision) => this.restore(revision));
  }

  /** What the action returns; undefined when it fails, and then the page says why. */
  async #attempt(action) {
    this.#say("");
    return action().catch((error) => this.#say(t("not_loaded", { error: errorText(error) })));
  }

  #say(text) { Object.assign($("stage-message"), { textContent: text, hidden: !text }); }

  /** Take over `facts`, and bring everything on the page into line. */
  show(facts = {}) {
    Object.assign(this, facts);
    if (this.grid) showEditor(this);
  }

  showReadout(point, aloud = false) {
    this.point = point;
    if (this.grid) showReadout(this, aloud);
  }
}

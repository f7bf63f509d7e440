// The states of one image that undo and redo walk through. No DOM.
// An entry is a revision number, the client id of a save that is still on its way, or null (no edit).

export class UndoList {
  constructor(entries = [null], position = entries.length - 1) { Object.assign(this, { entries, position }); }

  get current() { return this.entries[this.position]; }

  /** The entry a step away (-1: undo, 1: redo), or undefined. */
  peek(by) { return this.entries[this.position + by]; }
  move(by) { this.position += by; }

  /** A new state; what could have been redone is no longer offered. */
  push(entry) {
    this.entries = [...this.entries.slice(0, this.position + 1), entry];
    this.position = this.entries.length - 1;
  }

  /** A save was acknowledged: its client id becomes its revision. */
  resolve(clientId, revision) {
    this.entries = this.entries.map((entry) => (entry === clientId ? revision : entry));
  }
}

// The states of one image that undo and redo walk through: revisions, client ids of changes that are still on
// their way, or null (no edit). No DOM.

export class UndoList {
  /** @param kept a list from JSON; without it, a new one of an image without an edit */
  constructor(kept) {
    Object.assign(this, { entries: [null], position: 0 }, kept);
  }
  /** The state a step away (-1: undo, 1: redo), or undefined. */
  peek(by) {
    return this.entries[this.position + by];
  }
  move(by) {
    this.position += by;
  }
  /** A new state; what was undone is gone. */
  push(entry) {
    this.entries.splice(++this.position, Infinity, entry);
  }
  /** A save was acknowledged: its client id becomes its revision, the newest one. */
  resolve(clientId, revision) {
    this.newest = revision;
    this.entries = this.entries.map((entry) => (entry === clientId ? revision : entry));
  }
}

// Every change goes through one queue, in order, one request in flight. No DOM.
// The queue is written down before anything is sent and forgotten only when the server has answered 200,
// so neither a reload nor a dead server loses a change. A repeated request has the same client id.

const HOPELESS = [400, 404, 405, 409, 411, 413, 415]; // asking again would not change the answer

export class Saver {
  /**
   * @param store {read() -> text or null, write(text)}: outlives the page
   * @param on {send(change) -> {revision, created, status}, which rejects with {status, message, theirs?}:
   *   status is 0 without an answer, and theirs is there after a conflict;
   *   saverChanged({kind: "idle" | "saving" | "failed" | "conflict", saved?, error?, change?, theirs?});
   *   acknowledged(change, answer); refused(change): given up, as asking again is hopeless}
   */
  constructor(store, on, retryMs = 2000) {
    Object.assign(this, { store, on, retryMs, busy: false });
    this.pending = JSON.parse(store.read() ?? "[]");
    this.newest = new Map(); // image -> its newest revision that this page knows of, or null
    this.state = { kind: "idle" };
  }

  /** The newest change of an image that is still to be saved. */
  waiting(k) { return this.pending.findLast((change) => change.k === k); }

  /** Queue a change {kind, k, params, grid, target?, ...}; returns its client id. */
  add(change) {
    const client_id = newClientId();
    const base = this.waiting(change.k) ? undefined : (this.newest.get(change.k) ?? null);
    this.pending.push({ ...change, client_id, base });
    this.#write();
    if (this.state.kind !== "conflict") this.resume();
    return client_id;
  }

  /** Send what waits, now. */
  async resume() {
    if (this.busy || !this.pending.length) return;
    clearTimeout(this.timer);
    this.busy = true;
    const change = this.pending[0];
    if (this.state.kind !== "failed") this.#to({ kind: "saving" });
    const [answer, error] = await this.on.send(change).then((answer) => [answer], (error) => [null, error]);
    this.busy = false;
    if (answer) this.#settle(change, answer);
    else this.#fail(change, error);
  }

  /** After a conflict: save this page's version on top of theirs, or give it up. */
  decide(keepMine) {
    const { change, theirs } = this.state;
    const newest = theirs ? theirs.revision : null;
    if (keepMine) change.base = newest;
    else this.pending = this.pending.filter((other) => other.k !== change.k);
    this.newest.set(change.k, newest);
    this.#write();
    this.#to({ kind: "idle" });
    this.resume();
  }

  #settle(change, answer) {
    this.newest.set(change.k, answer.revision);
    this.#forget(change, answer.revision);
    this.on.acknowledged(change, answer);
    if (!this.pending.length) this.#to({ kind: "idle", saved: answer });
    this.resume();
  }

  #fail(change, error) {
    if ("theirs" in error) return this.#to({ kind: "conflict", change, theirs: error.theirs });
    this.#to({ kind: "failed", error });
    if (!HOPELESS.includes(error.status)) {
      this.timer = setTimeout(() => this.resume(), this.retryMs);
      return;
    }
    this.#forget(change, change.base);
    this.on.refused(change);
    this.resume();
  }

  /** Take a change off the queue; the next one of its image then starts from this revision. */
  #forget(change, revision) {
    this.pending = this.pending.filter((other) => other !== change);
    const next = this.pending.find((other) => other.k === change.k);
    if (next) next.base = revision;
    for (const other of this.pending) if (other.target === change.client_id) other.target = revision;
    this.#write();
  }

  #write() { this.store.write(JSON.stringify(this.pending)); }

  #to(state) {
    this.state = state;
    this.on.saverChanged(state);
  }
}

/** One request in flight; of those that come meanwhile only the newest is sent. */
export class Latest {
  constructor(run) { Object.assign(this, { run, busy: false, next: null }); }

  async request(input) {
    this.next = { input };
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.next) {
        const newest = this.next;
        this.next = null;
        await this.run(newest.input, () => this.next === null);
      }
    } finally {
      this.busy = false;
    }
  }
}

function newClientId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

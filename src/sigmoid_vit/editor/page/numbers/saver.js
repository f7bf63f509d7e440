// Every change goes through one queue, in order, one request in flight. No DOM.
// The queue is written down before anything is sent and forgotten only when the server has acknowledged it,
// so neither a reload nor a dead server loses a change. A repeated request has the same client id.
// A change names its image by its id, as the number of an image may be that of another one tomorrow.

const HOPELESS = [400, 404, 405, 409, 411, 413, 415]; // sending it again would change nothing
export const GONE = 410; // the data set has no such image now
const ABSENT = [GONE, 424]; // or its file cannot be read: the changes of other images go first

const REVIEWS = ["approve", "send_back"]; // of what is not the newest any more: to be looked at anew

/** A new name for a change. */
export function randomId() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Saver {
  // store {read() -> text or null, write(text)}: outlives the page.
  // on {send(change) -> {revision, created, status}, or an error {status (0: no response), message,
  //   theirs (of a conflict)}; acknowledged(change, response): saved; refused(change): given up as hopeless;
  //   saverChanged({kind: "idle" | "saving" | "failed" | "conflict", saved?, error?, isKept?, change?})}
  constructor(store, on, retryMs = 2000) {
    Object.assign(this, { store, on, retryMs, busy: false, state: { kind: "idle" } });
    this.pending = JSON.parse(store.read() ?? "[]");
    this.absent = new Map(); // id of an image that is not there now -> the state that says so
  }
  /** The newest change of an image that is still to be saved. */
  waiting(id, pending = this.pending) {
    return pending.findLast((change) => change.id === id);
  }
  /** Queue a change {kind, id, params, grid, base: the newest known revision, ...}; returns its client id. */
  add(change) {
    const client_id = randomId();
    this.#keep([...this.pending, { ...change, client_id }]);
    this.resume();
    return client_id;
  }
  /** Send what waits, now. */
  async resume() {
    this.wake?.();
    if (this.busy) return;
    this.busy = true;
    for (let change = this.#first(); change; change = this.#first()) {
      if (this.state.kind !== "failed") this.#to({ kind: "saving" });
      const response = await this.on.send(change).catch((error) => ({ error }));
      if (response.error) await this.#fail(change, response.error);
      else {
        this.#forget(change, response.revision);
        this.on.acknowledged(change, response);
        this.#to([...this.absent.values()][0] ?? { kind: "idle", saved: response });
      }
    }
    this.busy = false;
  }
  /** The change to send; none while the person has a conflict to decide. */
  #first() {
    return this.state.kind !== "conflict" && this.pending.find(({ id }) => !this.absent.has(id));
  }
  /** After a conflict: save this page's version on top of theirs, and what was added to it meanwhile. */
  decide() {
    const { change, error } = this.state;
    change.base = error.theirs.revision;
    if (change.kind === "accept") change.kind = "edit"; // what it accepts is not the newest any more
    this.#keep(this.pending);
    this.#to({ kind: "idle" });
    this.resume();
  }
  /** Resolves when the next change can be sent. */
  async #fail(change, error) {
    const isReview = REVIEWS.includes(change.kind);
    if (error.theirs && !isReview) return this.#to({ kind: "conflict", change, error });
    if (error.theirs === null && !isReview) return void (change.base = null); // a store without the image
    const isKept = !HOPELESS.includes(error.status);
    this.#to({ kind: "failed", change, error, isKept });
    if (ABSENT.includes(error.status)) {
      this.absent.set(change.id, this.state);
      clearTimeout(this.timer);
      this.timer = setTimeout(() => (this.absent.clear(), this.resume()), this.retryMs);
    } else if (isKept) await new Promise((wake) => setTimeout((this.wake = wake), this.retryMs));
    else {
      this.#forget(change, change.base);
      this.on.refused(change);
    }
  }
  /** Take a change off the queue; the next one of its image then starts from this revision. */
  #forget(change, revision) {
    const pending = this.pending.filter((other) => other !== change);
    const next = pending.find((other) => other.id === change.id);
    if (next) next.base = revision;
    for (const other of pending) if (other.target === change.client_id) other.target = revision;
    this.#keep(pending);
  }

  #keep(pending) {
    this.pending = pending;
    this.store.write(JSON.stringify(pending));
  }

  #to(state) {
    this.state = state;
    this.on.saverChanged(state);
  }
}

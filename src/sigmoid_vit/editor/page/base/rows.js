// A list of any length: only the rows in sight are in the page, and serve for others while it scrolls.
// For the keyboard it is one stop, a listbox: Tab leads to one row, and the keys below from there to others.

const BEYOND = 6; // rows above and below those in sight

/** Where each key leads in a list: from a place, with so many columns and places in sight, of this length. */
const KEYS = {
  ArrowUp: (place, { columns }) => place - columns,
  ArrowDown: (place, { columns }) => place + columns,
  ArrowLeft: (place) => place - 1,
  ArrowRight: (place) => place + 1,
  PageUp: (place, { shown }) => place - shown,
  PageDown: (place, { shown }) => place + shown,
  Home: () => 0,
  End: (place, { length }) => length - 1,
};

export class Rows {
  /**
   * @param list an <ol>, the box that scrolls; its rows have one height, and its grid says how many columns
   * @param make() a new row, an <li> with a button; fill(row, place): let it show what stands at a place;
   *   drawn(): others are there
   */
  constructor(list, { make, fill, drawn }) {
    Object.assign(this, { list, make, fill, drawn, length: 0, rows: new Map(), spare: [] });
    this.stop = 0; // the place where Tab leads
    list.addEventListener("scroll", () => this.draw());
    list.addEventListener("focusin", () => this.#stopAt(this.#focused()));
    list.addEventListener("keydown", (event) => this.#press(event));
    new ResizeObserver(() => this.draw()).observe(list);
  }
  /** Other things stand in the list now; Tab leads to place `stop`, and the focus too, if a row has it. */
  reset(length, stop) {
    this.length = length;
    const hadFocus = this.#focused() >= 0;
    if (hadFocus) document.activeElement.blur();
    this.stop = Math.max(0, stop);
    this.draw();
    for (const place of this.rows.keys()) this.refresh(place);
    if (hadFocus && stop >= 0) this.rows.get(stop)?.firstChild.focus({ preventScroll: true });
  }
  /** What stands at a place has changed. */
  refresh(place) {
    const row = this.rows.get(place);
    if (!row) return;
    const tabIndex = place === this.stop ? 0 : -1;
    Object.assign(row.firstChild, { ariaPosInSet: place + 1, ariaSetSize: this.length, tabIndex });
    this.fill(row, place);
  }
  /** See a place, and let Tab lead there unless a row has the focus. */
  choose(place) {
    if (this.#focused() < 0) this.#stopAt(Math.max(0, place));
    this.reveal(place);
  }
  /** Scroll as far as it takes to see a place. */
  reveal(place) {
    const { columns, height } = this.#layout();
    const top = Math.floor(place / columns) * height;
    const { scrollTop, clientHeight } = this.list;
    if (place >= 0) this.list.scrollTop = Math.min(top, Math.max(scrollTop, top + height - clientHeight));
    this.draw();
  }
  /** The places in sight, and `beyond` more rows on either side: [first, end]. */
  inSight(beyond = 0) {
    const { columns, height } = this.#layout();
    const { scrollTop, clientHeight } = this.list;
    if (!height) return [0, 0]; // the list itself is not shown
    const first = Math.floor(scrollTop / height) - beyond;
    const end = Math.ceil((scrollTop + clientHeight) / height) + beyond;
    return [first, end].map((line) => Math.min(this.length, Math.max(0, line * columns)));
  }
  /** Let the page have the rows around those in sight, and the one where Tab leads. */
  draw() {
    const { list, rows, spare } = this;
    const [first, end] = this.inSight(BEYOND);
    const inSight = Array.from({ length: end - first }, (_, i) => first + i);
    const stop = this.stop < this.length ? [this.stop] : [];
    const places = [...new Set([...inSight, ...stop])].sort((a, b) => a - b);
    for (const [place, row] of rows) {
      if (places.includes(place)) continue;
      rows.delete(place);
      row.remove();
      spare.push(row);
    }
    let next = list.firstChild;
    for (const place of places) {
      if (rows.has(place)) next = rows.get(place).nextSibling;
      else list.insertBefore(this.#put(place), next);
    }
    this.#arrange();
    this.drawn();
  }

  #stopAt(place) {
    const before = this.stop;
    this.stop = place;
    this.refresh(before);
    this.refresh(place);
    this.draw();
  }
  /** A key that leads to another row. */
  #press(event) {
    const { altKey, ctrlKey, metaKey, key } = event;
    if (!(key in KEYS) || altKey || ctrlKey || metaKey) return;
    event.preventDefault();
    event.stopPropagation(); // elsewhere, these keys are the picture's
    const { columns, height } = this.#layout();
    const shown = columns * Math.max(1, Math.floor(this.list.clientHeight / height));
    const to = KEYS[key](this.stop, { columns, shown, length: this.length });
    this.#stopAt(Math.min(this.length - 1, Math.max(0, to)));
    this.reveal(this.stop);
    this.rows.get(this.stop).firstChild.focus({ preventScroll: true });
  }

  #put(place) {
    const row = this.spare.pop() ?? this.make();
    this.rows.set(place, row);
    this.refresh(place);
    return row;
  }
  /** The place of the row with the focus, or -1. */
  #focused() {
    for (const [place, row] of this.rows) if (row.contains(document.activeElement)) return place;
    return -1;
  }
  /** How many rows stand side by side, and the height of one; 0 as long as none is shown. */
  #layout() {
    if (this.length && !this.rows.size) this.list.append(this.#put(0));
    const [row] = this.rows.values();
    const columns = getComputedStyle(this.list).gridTemplateColumns.split(" ").length;
    return { columns, height: row?.offsetHeight ?? 0 };
  }

  #arrange() {
    const { columns, height } = this.#layout();
    const lines = Math.ceil(this.length / columns);
    this.list.style.setProperty("--height", `${lines * height}px`);
    for (const [place, { style }] of this.rows) {
      const [width, top] = [`${100 / columns}%`, `${Math.floor(place / columns) * height}px`];
      Object.assign(style, { width, top, left: `${(100 * (place % columns)) / columns}%` });
    }
  }
}

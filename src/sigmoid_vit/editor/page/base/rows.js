// A list of any length: only the rows in sight are in the page, and serve for others while it scrolls.

const BEYOND = 6; // rows above and below those in sight

export class Rows {
  /**
   * @param list an <ol>, the box that scrolls; its rows have one height, and its grid says how many columns
   * @param make() a new row; fill(row, place): let it show what stands at a place; drawn(): others are there
   */
  constructor(list, { make, fill, drawn }) {
    Object.assign(this, { list, make, fill, drawn, length: 0, rows: new Map(), spare: [] });
    list.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(list);
  }
  /** Other things stand in the list now; if a row has the focus, it goes to the row of place `focused`. */
  reset(length, focused = -1) {
    this.length = length;
    const hadFocus = this.#focused() >= 0;
    if (hadFocus) document.activeElement.blur();
    this.draw(hadFocus ? focused : -1);
    for (const place of this.rows.keys()) this.refresh(place);
    if (hadFocus) this.rows.get(focused)?.firstChild.focus({ preventScroll: true });
  }
  /** What stands at a place has changed. */
  refresh(place) {
    const row = this.rows.get(place);
    if (!row) return;
    Object.assign(row, { ariaPosInSet: place + 1, ariaSetSize: this.length });
    this.fill(row, place);
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
  /** Let the page have the rows around those in sight, and around the one with the focus or place `also`. */
  draw(also = -1) {
    const { list, rows, spare } = this;
    const [first, end] = this.inSight(BEYOND);
    const kept = also >= 0 ? also : this.#focused();
    const inSight = Array.from({ length: end - first }, (_, i) => first + i);
    const around = kept < 0 ? [] : [kept - 1, kept, kept + 1]; // where Tab leads
    const isThere = (place) => place >= 0 && place < this.length;
    const places = [...new Set([...inSight, ...around.filter(isThere)])].sort((a, b) => a - b);
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

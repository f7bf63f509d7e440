// Small helpers for the page's elements. Whatever comes from outside becomes text, never markup.

export const $ = (id) => document.getElementById(id);

/** A new element with properties (and attributes, where a name holds a dash) and children. */
export function element(tag, facts = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(facts)) {
    if (name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** Fill a select with [value, text] pairs and choose one. */
export function options(select, pairs, chosen = select.value) {
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value, textContent: text })));
  select.value = chosen;
}

/** [value, text] pairs of the numbers from 0 to count - 1. */
export const numbered = (count) => Array.from({ length: count }, (_, i) => [String(i), String(i)]);

// The page's elements and their texts. Whatever comes from outside becomes text, never markup.
// All texts lie in texts.json, one line each: [English, Japanese], as in the select #language.

import texts from "../texts.json" with { type: "json" };

// what the attributes data-text, data-label, ... name a text of
const NAMED = {
  text: "textContent",
  label: "ariaLabel",
  hint: "title",
  placeholder: "placeholder",
  group: "label",
};

export const $ = (id) => document.getElementById(id);
export const valuesOf = (form) => Object.fromEntries(new FormData(form)); // of its controls, by their names
export const indices = (count) => Array.from({ length: count }, (_, i) => String(i)); // "0", "1", ...

/** A new element with properties and children. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Open a dialog; resolves to the value of the button that closes it, or to "". */
export function ask(id) {
  const dialog = $(id);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => (dialog.onclose = () => resolve(dialog.returnValue)));
}

/** The text in the chosen language, its {names} filled in. */
export const t = (name, facts = {}) =>
  texts[name][$("language").selectedIndex].replace(/\{(\w+)\}/g, (_, key) => String(facts[key]));

/** Choose a language and fill every element that names its text. */
export function setLanguage(chosen) {
  $("language").value = chosen;
  document.documentElement.lang = chosen;
  for (const [kind, property] of Object.entries(NAMED)) {
    for (const each of document.querySelectorAll(`[data-${kind}]`)) each[property] = t(each.dataset[kind]);
  }
}

/** A UTC time of the store as the person's local time, with the date or with seconds. */
const SHORT = { dateStyle: "short", timeStyle: "short" };
export const dateOf = (utc) => new Date(utc).toLocaleString(document.documentElement.lang, SHORT);
export const timeOf = (utc) => new Date(utc).toLocaleTimeString("en-GB");

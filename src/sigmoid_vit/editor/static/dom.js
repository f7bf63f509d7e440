// The page's elements and their texts. Whatever comes from outside becomes text, never markup.
// All texts lie in texts.json, one line each: [English, Japanese].

import texts from "./texts.json" with { type: "json" };

const LANGUAGES = ["en", "ja"];
// what data-text, data-label, ... of an element name: the text of which property; its other data fill it in
const NAMED = { text: "textContent", label: "ariaLabel", hint: "title", placeholder: "placeholder" };

export const $ = (id) => document.getElementById(id);

/** A new element with properties and children. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** What is chosen in a form: its controls' values by their names. */
export const valuesOf = (form) => Object.fromEntries(new FormData(form));

/** The numbers from 0 to count - 1 as texts. */
export const indices = (count) => Array.from({ length: count }, (_, i) => String(i));

/** The text in the page's language, its {names} filled in. */
export function t(name, facts = {}) {
  const text = texts[name][LANGUAGES.indexOf(document.documentElement.lang)];
  return text.replace(/\{(\w+)\}/g, (_, key) => String(facts[key]));
}

/** Choose a language and fill every element that names its text. */
export function setLanguage(chosen) {
  document.documentElement.lang = LANGUAGES.includes(chosen) ? chosen : "en";
  for (const [kind, property] of Object.entries(NAMED)) {
    for (const each of document.querySelectorAll(`[data-${kind}]`)) {
      each[property] = t(each.dataset[kind], each.dataset);
    }
  }
}

/** A UTC time of the store as the person's local time, with the date or with seconds. */
const SHORT = { dateStyle: "short", timeStyle: "short" };
export const dateOf = (utc) => new Date(utc).toLocaleString(document.documentElement.lang, SHORT);
export const timeOf = (utc) => new Date(utc).toLocaleTimeString("en-GB");

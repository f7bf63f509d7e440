// The texts of the page. All of them lie in texts.json, one line each: [English, Japanese].

export const LANGUAGES = ["en", "ja"];
let language = "en";
let texts = {};

export async function loadTexts() {
  texts = await (await fetch(new URL("texts.json", import.meta.url))).json();
}

/** The text in the chosen language, its {names} filled in. */
export function t(name, facts = {}) {
  if (!(name in texts)) throw new RangeError(`no text ${name}`);
  return texts[name][LANGUAGES.indexOf(language)].replace(/\{(\w+)\}/g, (_, key) => String(facts[key]));
}

export const getLanguage = () => language;

/** Choose a language and fill every element that names its text: data-text, data-label, data-hint. */
export function setLanguage(chosen) {
  language = LANGUAGES.includes(chosen) ? chosen : "en";
  document.documentElement.lang = language;
  document.title = t("title");
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = t(element.dataset.text);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", t(element.dataset.label));
  }
  for (const element of document.querySelectorAll("[data-hint]")) element.title = t(element.dataset.hint);
}

/** A UTC time of the store as the person's local time, with the date or with seconds. */
const SHORT = { dateStyle: "short", timeStyle: "short" };
export const dateOf = (utc) => new Date(utc).toLocaleString(language, SHORT);
export const timeOf = (utc) => new Date(utc).toLocaleTimeString("en-GB");

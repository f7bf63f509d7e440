// What stands beside the picture: prediction, scope, history, dialogs.

import { heatImage } from "./colours.js";
import { $, element, options } from "./dom.js";
import { dateOf, t } from "./texts.js";

const percent = (p) => (p === undefined ? "–" : `${(100 * p).toFixed(1)} %`);

/**
 * The five likeliest classes after the edit, the network's first choice before it, and the true class.
 * @param before, after {top: [{class, p}], p_true}; before.label is the true class
 */
export function showPrediction(before, after, classes) {
  const { label } = before;
  const chances = ({ top, p_true }) => new Map([[label, p_true], ...top.map((each) => [each.class, each.p])]);
  const [old, now] = [chances(before), chances(after)];
  const shown = new Set([...after.top.map((each) => each.class), before.top[0].class, label]);
  const rows = [...shown].sort((a, b) => (now.get(b) ?? 0) - (now.get(a) ?? 0));
  $("bars").replaceChildren(...rows.map((i) => bars(classes[i], old.get(i), now.get(i), i === label)));
  const right = after.top[0].class === label;
  const turned = right === (before.top[0].class === label) ? "" : "turned_";
  $("badge").textContent = t(`badge_${turned}${right ? "right" : "wrong"}`);
  $("badge").className = `pill ${right ? "good" : "bad"}`;
  const facts = { name: classes[after.top[0].class], percent: Math.round(100 * after.top[0].p) };
  $("says").textContent = t("says", { ...facts, badge: $("badge").textContent });
}

function bars(name, before, after, isTrue) {
  const text = isTrue ? `✓ ${name}` : name;
  const title = isTrue ? `${t("true_class")}: ${name}` : name;
  const track = (which, p = 0) => {
    const bar = element("div", { className: which });
    bar.style.width = `${100 * p}%`;
    return element("div", { className: "track" }, bar);
  };
  const head = element("div", { className: "head" },
    element("span", { className: "name", textContent: text, title }),
    element("span", { className: "number", textContent: `${percent(before)} → ${percent(after)}` }));
  const className = isTrue ? "true" : "";
  return element("li", { className }, head, track("before", before), track("after", after));
}

/** A scope's layers or heads as the server takes them: "all", "last" or indices with commas. */
export const scopeText = (value) => (value === null ? "all" : String(value));

/** The scope pickers and their sentences; a scope of several layers or heads, made elsewhere, is offered too. */
export function showScope(scope, { layers, heads, class_token }) {
  const indices = (count) => Array.from({ length: count }, (_, i) => String(i));
  const offers = {
    layers: ["all", ...indices(layers).slice(0, -1), "last"],
    heads: ["all", ...indices(heads)],
    queries: class_token ? ["all", "cls"] : ["all"],
  };
  for (const [name, values] of Object.entries(offers)) {
    const text = scopeText(scope[name]);
    const chosen = name === "layers" && text === String(layers - 1) ? "last" : text;
    if (!values.includes(chosen)) values.push(chosen);
    const words = (value) => (value === "all" || value === "cls" ? t(`${name}_${value}`)
      : t(`${name}_one`, { i: value === "last" ? layers - 1 : value }));
    options($(`scope-${name}`), values.map((value) => [value, words(value)]), chosen);
    $(`why-${name}`).textContent = t(`${name}_${chosen === "all" || chosen === "cls" ? chosen : "one"}_why`);
  }
}

/** The scope of the texts that the pickers hold and the server takes. */
export function readScope({ layers, heads, queries }) {
  const numbers = (text) => text.split(",").map(Number);
  return {
    layers: layers === "all" || layers === "last" ? layers : numbers(layers),
    heads: heads === "all" ? null : numbers(heads),
    queries,
  };
}

export function showHistory(revisions, restore) {
  const rows = revisions.map((each, i) => {
    const line = t("revision", { ...each, time: dateOf(each.created) });
    const textContent = [line, each.deleted ? t("deleted") : "", each.note].filter(Boolean).join(" · ");
    const onclick = () => restore(each.revision);
    const button = element("button", { textContent: t("restore"), onclick, disabled: i === 0 });
    return element("li", {}, element("span", { textContent }), button);
  });
  $("revisions").replaceChildren(...(rows.length ? rows : [t("no_history")]));
}

/** Show two versions of an image, values per cell; resolves to whether the person keeps their own. */
export function askConflict(mine, theirs, facts, [rows, columns]) {
  for (const [id, values] of [["mine", mine], ["theirs", theirs]]) {
    Object.assign($(id), { width: columns, height: rows });
    $(id).getContext("2d").putImageData(heatImage(values, rows, columns), 0, 0);
  }
  const deleted = !facts || facts.deleted ? t("deleted") : "";
  const line = facts ? t("theirs", { ...facts, time: dateOf(facts.created) }) : "";
  $("theirs-caption").textContent = [line, deleted].filter(Boolean).join(" · ");
  $("conflict").oncancel = (event) => event.preventDefault(); // a choice has to be made
  $("conflict").showModal();
  return new Promise((resolve) => {
    $("conflict").onclose = () => resolve($("conflict").returnValue === "mine");
  });
}

/** Ask why an image is skipped; resolves to the reason, or "" when the person changes their mind. */
export function askReason() {
  const [dialog, input] = [$("skip-dialog"), $("skip-reason")];
  for (const reason of dialog.querySelectorAll(".reason")) {
    reason.onclick = () => Object.assign(input, { value: reason.textContent }).focus();
  }
  input.value = dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "skip" ? input.value.trim() : "");
  });
}

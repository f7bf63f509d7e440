// Starts the page and ties its controls to the editor.

import { errorText, getBlob, getJson, takeToken } from "./api.js";
import { $, numbered, options } from "./dom.js";
import { Editor } from "./editor.js";
import { listenToKeys } from "./keys.js";
import { listenToPointer } from "./pointer.js";
import { Queue } from "./queue.js";
import { openDrafts, storage } from "./storage.js";
import { getLanguage, loadTexts, setLanguage, t } from "./texts.js";
import { View } from "./view.js";

async function start() {
  takeToken();
  window.addEventListener("hashchange", () => takeToken() && location.reload());
  await loadTexts();
  setLanguage(storage("local").get("language") ?? navigator.language.slice(0, 2));
  const session = await getJson("session").catch((error) => {
    $("gate").textContent = error.status === 401 ? t("no_token") : errorText(error);
    $("gate").hidden = false;
  });
  if (session) await openEditor(session);
}

async function openEditor(session) {
  $("main").hidden = false;
  const { run, split, edits, images, layers } = session;
  const work = [run, split, edits, images].join("/");
  const editor = new Editor(session, new View($("canvas")), work, await openDrafts(work));
  editor.queue = new Queue(session, (k) => (k !== editor.k || !editor.grid) && editor.open(k));
  showSession(session);
  $("layer").value = layers - 1;
  listenToControls(editor, session);
  listenToPointer($("canvas"), editor, listenToKeys(editor));
  editor.saver.resume();
  const last = storage("session").get("image");
  if (last !== null && Number(last) < images) await editor.open(Number(last));
  await editor.queue.load("first");
}

/** What depends on the session and the language. */
function showSession({ run, split, author, command, grid: [rows, columns], layers, heads }) {
  $("run").textContent = $("run").title = `${run} · ${split}`;
  $("author").placeholder = author;
  $("author").value ||= storage("local").get("author") ?? author;
  $("command").textContent = command;
  $("canvas").setAttribute("aria-label", t("canvas", { rows, columns }));
  options($("layer"), numbered(layers));
  options($("head"), [["mean", t("head_mean")], ...numbered(heads)], $("head").value || "mean");
}

function listenToControls(editor, session) {
  const { view } = editor;
  const clicks = {
    undo: () => editor.step(-1), redo: () => editor.step(1), reset: () => editor.reset(),
    accept: () => editor.review(true), reject: () => editor.review(false), fill: () => editor.fill(),
    next: () => editor.next(), skip: () => editor.skip(), hide: () => editor.hide(),
    query: () => session.class_token && editor.changeMap("cls"),
    "zoom-in": () => view.zoom(1.25), "zoom-out": () => view.zoom(0.8), "zoom-fit": () => view.fit(),
    "help-open": () => $("help").showModal(), "note-open": () => $("note").focus(),
    export: () => download(session.edits), copy: copyCommand,
  };
  const changes = {
    layer: () => editor.changeMap(), head: () => editor.changeMap(), map: () => editor.changeMap(),
    "scope-layers": () => editor.chooseScope(), "scope-queries": () => editor.chooseScope(),
    "scope-heads": () => editor.chooseScope(), note: () => editor.revise({ note: $("note").value.trim() }),
    author: () => storage("local").set("author", $("author").value.trim()),
    language: () => changeLanguage(editor, session),
  };
  for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
  for (const [id, action] of Object.entries(changes)) $(id).addEventListener("change", action);
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => editor.setBrush({ tool: button.dataset.tool }));
  }
  for (const id of ["target", "size", "softness"]) {
    $(id).addEventListener("input", () => editor.setBrush({ [id]: Number($(id).value) }));
  }
  $("opacity").addEventListener("input", () => view.mark({ opacity: Number($("opacity").value) }));
  $("history").addEventListener("toggle", () => $("history").open && editor.loadHistory());
  $("language").value = getLanguage();
}

function changeLanguage(editor, session) {
  storage("local").set("language", $("language").value);
  setLanguage($("language").value);
  showSession(session);
  editor.queue.showFilters();
  editor.show();
}

async function download(edits) {
  const name = `${edits.split(/[\\/]/).pop().replace(/\.[^.]*$/, "")}_export.zip`;
  $("exported").textContent = "…";
  const blob = await getBlob("export").catch((error) => void ($("exported").textContent = errorText(error)));
  if (!blob) return;
  Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name }).click();
  $("exported").textContent = t("exported", { name });
}

async function copyCommand() {
  getSelection().selectAllChildren($("command"));
  const copied = await navigator.clipboard?.writeText($("command").textContent).then(() => true, () => false);
  if (copied ?? document.execCommand("copy")) $("copy").textContent = t("copied");
}

start();

// Starts the page and ties its controls to the editor.

import { errorText, get, shareToken, takeToken } from "./api.js";
import { $, element, indices, setLanguage, t, valuesOf } from "./dom.js";
import { Editor } from "./editor.js";
import { listenToKeys } from "./keys.js";
import { listenToPointer } from "./pointer.js";
import { openDrafts, storage } from "./storage.js";

takeToken();
window.addEventListener("hashchange", () => location.reload());
setLanguage(storage("local").get("language") ?? (navigator.language.startsWith("ja") ? "ja" : "en"));
await get("session").then(openEditor, (error) => {
  const textContent = error.status === 401 ? t("no_token") : errorText(error);
  Object.assign($("gate"), { textContent, hidden: false });
});

async function openEditor(session) {
  const { run, split, work, author, command, layers, heads, images } = session;
  $("main").hidden = false;
  $("run").textContent = $("run").title = `${run} · ${split}`;
  Object.assign($("author"), { placeholder: author, value: storage("local").get("author") ?? author });
  $("command").textContent = command;
  $("layer").append(...indices(layers).map((i) => new Option(i)));
  $("layer").value = layers - 1;
  $("head").append(...indices(heads).map((i) => new Option(i)));
  const editor = new Editor(session, work, await openDrafts(work));
  shareToken(); // now, as the drafts of the tabs that it starts anew are theirs
  listenToControls(editor, session);
  listenToPointer($("canvas"), editor, listenToKeys(editor));
  editor.saver.resume();
  const last = storage("session").get("image");
  if (last !== null && Number(last) < images) await editor.open(Number(last));
  await editor.queue.load("first");
}

function listenToControls(editor, session) {
  const { view } = editor;
  const actions = {
    click: {
      undo: () => editor.step(-1), redo: () => editor.step(1), reset: () => editor.change("delete"),
      accept: () => editor.change("accept"), reject: () => editor.change("delete"),
      next: () => editor.next(), skip: () => editor.skip(), fill: () => editor.fill(),
      query: () => session.class_token && editor.changeMap("cls"),
      "zoom-in": () => view.zoom(1.25), "zoom-out": () => view.zoom(0.8), "zoom-fit": () => view.fit(),
      tools: ({ target: { dataset: { tool } } }) => tool && editor.setBrush({ tool }),
      reasons: ({ target: { type, textContent: value } }) =>
        type === "button" && Object.assign($("skip-reason"), { value }).focus(),
      "help-open": () => $("help").showModal(), "note-open": () => $("note").focus(),
      export: () => download(session.edits), copy: copyCommand,
    },
    input: {
      brush: ({ target }) => editor.setBrush({ [target.id]: target.valueAsNumber }),
      opacity: () => view.draw(), hide: () => view.draw(),
    },
    change: {
      look: () => editor.changeMap(),
      scope: () => editor.revise({ scope: valuesOf($("scope")) }),
      note: () => editor.revise({ note: $("note").value.trim() }),
      author: () => $("author").reportValidity() && storage("local").set("author", $("author").value.trim()),
      language: () => {
        storage("local").set("language", $("language").value);
        setLanguage($("language").value);
        editor.queue.show();
        editor.show();
      },
    },
    toggle: { history: () => editor.loadHistory() },
  };
  for (const [event, byId] of Object.entries(actions)) {
    for (const [id, action] of Object.entries(byId)) $(id).addEventListener(event, action);
  }
}

async function download(edits) {
  const name = `${edits.split(/[\\/]/).pop().replace(/\.[^.]*$/, "")}_export.zip`;
  const keep = (blob) => element("a", { href: URL.createObjectURL(blob), download: name }).click();
  $("exported").textContent = "…";
  const done = get("export", {}, "blob").then(keep);
  $("exported").textContent = await done.then(() => t("exported", { name }), errorText);
}

function copyCommand() {
  getSelection().selectAllChildren($("command"));
  if (document.execCommand("copy")) $("copy").textContent = t("copied"); // also without https
}

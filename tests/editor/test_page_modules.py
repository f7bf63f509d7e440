"""The editor's modules without a page: the grid of numbers, undo, the queue of saves, drafts, texts."""

import functools
import json
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import matplotlib
import numpy as np
import pytest
from helpers.browser import STATIC, open_browser
from matplotlib.path import Path as Polygon

TEXTS = json.loads((STATIC / "texts.json").read_text(encoding="utf-8"))
HTML = (STATIC / "index.html").read_text(encoding="utf-8")
SCRIPTS = {file.name: file.read_text(encoding="utf-8") for file in sorted(STATIC.glob("*.js"))}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def run():
    """run(module, script, argument): what the script, whose body sees the module as `m`, returns."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=STATIC))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with open_browser() as browser:
        page = browser.new_page()
        page.goto(f"{address}view.js")

        def evaluate(module, script, argument=None):
            call = f"async (a) => {{ const m = await import('{address}{module}.js'); {script} }}"
            return page.evaluate(call, argument)

        yield evaluate
    server.shutdown()
    server.server_close()


def painted(run, brush, points, rows=8, columns=8, own=0.5):
    """Value and mark of every cell after a stroke through the points (x, y)."""
    script = """
        const grid = new m.Grid([a.rows, a.columns]);
        const stroke = new m.Stroke(grid, new Float32Array(a.rows * a.columns).fill(a.own), a.brush);
        for (const [x, y] of a.points) stroke.to({ x, y });
        return { value: [...grid.value], edited: [...grid.edited] };
    """
    brush = {"tool": "set", "target": 0, "size": 1, "softness": 0} | brush
    facts = {"rows": rows, "columns": columns, "own": own, "brush": brush, "points": points}
    found = run("grid", script, facts)
    return np.array(found["value"]).reshape(rows, columns), np.array(found["edited"]).reshape(rows, columns)


def test_a_grid_is_its_bytes(run):
    values, marks = [0.0, 0.25, 1.0, 0.1, 0.0, 0.7], [0, 1, 1, 1, 0, 1]
    script = """
        const grid = new m.Grid([2, 3]);
        a[0].forEach((value, cell) => a[1][cell] && grid.set(cell, value));
        const again = new m.Grid([2, 3], Uint8Array.from(JSON.parse(JSON.stringify([...grid.bytes]))).buffer);
        const copy = grid.copy();
        const same = grid.equals(again) && grid.equals(copy);
        copy.erase(1);
        return { bytes: [...grid.bytes], value: [...again.value], edited: [...again.edited],
                 same, count: grid.count, copied: !grid.equals(copy) && copy.count === 3 };
    """
    found = run("grid", script, [values, marks])
    expected = np.array(values, "<f4").tobytes() + np.array(marks, np.uint8).tobytes()
    assert bytes(found["bytes"]) == expected
    assert np.array_equal(np.array(found["value"], np.float32), np.array(values, np.float32))
    assert found["edited"] == marks and found["same"] and found["count"] == 4 and found["copied"]
    with pytest.raises(Exception, match="a grid of 29 bytes"):
        run("grid", "new m.Grid([2, 3], new ArrayBuffer(29))")


def test_a_dot_paints_the_cell_it_lies_in(run):
    for x, y in [(2.01, 5.99), (2.5, 5.5), (2.99, 5.01)]:
        value, edited = painted(run, {"target": 0.3}, [(x, y)])
        assert edited.sum() == 1 and value[5, 2] == pytest.approx(0.3)
    assert painted(run, {}, [(-3, -3)])[1].sum() == 0


def test_a_fast_stroke_leaves_no_gap_and_equals_a_slow_one(run):
    rng = np.random.RandomState(0)
    for size in (1, 2, 3.5):
        for _ in range(10):
            start, end = rng.uniform(0, 8, 2), rng.uniform(0, 8, 2)
            brush = {"size": size, "softness": 0.5, "target": 0.9}
            line = [start + t * (end - start) for t in np.linspace(0, 1, 50)]
            fast, marks = painted(run, brush, [start.tolist(), end.tolist()])
            slow, slow_marks = painted(run, brush, [point.tolist() for point in line])
            crossed = {(int(y), int(x)) for x, y in line}
            assert all(marks[cell] for cell in crossed)
            assert np.array_equal(marks, slow_marks) and np.allclose(fast, slow, atol=1e-6)


def test_a_soft_edge_on_paper(run):
    """Diameter 6, softness 1: at distance d of 3 the effect is (1 + cos(pi d / 3)) / 2."""
    value, edited = painted(run, {"size": 6, "softness": 1, "target": 1}, [(4.5, 4.5)], own=0.2)
    for column in range(8):
        d = abs(column - 4)
        weight = (1 + np.cos(np.pi * d / 3)) / 2 if d < 3 else 0
        assert value[4, column] == pytest.approx(0.2 + weight * 0.8 if d < 3 else 0, abs=1e-6)
    assert np.array_equal(value, value.T) and edited.sum() == 21  # nearer than 3, effect over 0.01


def test_raise_lower_and_erase(run):
    value, _ = painted(run, {"tool": "raise"}, [(1.5, 1.5), (1.6, 1.5), (1.5, 1.5)], own=0.5)
    assert value[1, 1] == pytest.approx(0.7)  # one stroke counts once, however often it passes
    assert painted(run, {"tool": "raise"}, [(1.5, 1.5)], own=0.95)[0][1, 1] == 1
    assert painted(run, {"tool": "lower"}, [(1.5, 1.5)], own=0.1)[0][1, 1] == 0
    script = """
        const grid = new m.Grid([4, 4]);
        for (let cell = 0; cell < 16; cell++) grid.set(cell, 0.4);
        const stroke = new m.Stroke(grid, new Float32Array(16), { tool: "erase", size: 1, softness: 0 });
        stroke.to({ x: 0.5, y: 0.5 });
        stroke.to({ x: 3.5, y: 0.5 });
        return [grid.count, stroke.before.count, grid.over(new Float32Array(16).fill(0.9))[5]];
    """
    assert run("grid", script) == pytest.approx([12, 16, 0.4])


@pytest.mark.parametrize("inside", [True, False])
def test_a_polygon_fills_the_cells_whose_centre_it_holds(run, inside):
    rng = np.random.RandomState(1)
    centres = [(column + 0.5, row + 0.5) for row in range(7) for column in range(9)]
    script = """
        const grid = new m.Grid([7, 9]);
        m.fillPolygon(grid, a.points.map(([x, y]) => ({ x, y })), 0.6, a.inside);
        return [[...grid.edited], [...grid.value]];
    """
    for _ in range(10):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 6))
        radius = rng.uniform(1, 5, 6)
        points = np.stack([4.5 + radius * np.cos(angle), 3.5 + radius * np.sin(angle)], 1)
        edited, value = run("grid", script, {"points": points.tolist(), "inside": inside})
        expected = Polygon(points).contains_points(centres) == inside
        assert np.array_equal(np.array(edited, bool), expected)
        assert np.allclose(value, 0.6 * expected)


def test_undo_and_redo(run):
    script = """
        const list = new m.UndoList();
        list.push("a1"); list.push("b2"); list.resolve("a1", 7);
        const seen = [list.peek(0), list.peek(-1), list.peek(1) === undefined];
        list.move(-1); list.move(-1);
        seen.push(list.peek(0), list.peek(-1) === undefined, list.peek(1));
        list.move(1); list.push("c3");
        return [...seen, new m.UndoList(JSON.parse(JSON.stringify(list)))];
    """
    kept = {"entries": [None, 7, "c3"], "position": 2, "newest": 7}
    assert run("saver", script) == ["b2", 7, True, None, True, 7, kept]


SAVER = """
    const log = [];
    const kept = { text: a.kept ?? null };
    const answers = [...a.answers];
    let absent = a.absent; // id of an image that is not there
    const store = { read: () => kept.text, write: (text) => { kept.text = text; } };
    const saver = new m.Saver(store, {
      send: async (change) => {
        log.push(["send", change.name, change.client_id, change.base, change.target ?? null,
          JSON.parse(kept.text).length]);
        await new Promise((resolve) => setTimeout(resolve, 5));
        if (change.id === absent) throw { status: a.status };
        const answer = answers.shift();
        if (answer.status !== undefined) throw answer;
        return answer;
      },
      saverChanged: (state) => log.push([state.kind]),
      acknowledged: (change, answer) => log.push(["acknowledged", change.name, answer.revision]),
      refused: (change) => log.push(["refused", change.name]),
    }, 10);
    const settled = async () => {
      for (let i = 0; i < 200 && (saver.pending.length && saver.state.kind !== "conflict"); i++) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
"""


def test_saves_go_one_after_the_other_each_on_top_of_the_last(run):
    script = f"""{SAVER}
        const first = saver.add({{ id: "a", name: "one", base: 5 }});
        saver.add({{ id: "a", name: "two", base: 5 }});
        saver.add({{ id: "b", name: "other", base: null }});
        saver.add({{ id: "a", name: "back", base: 5, target: first }});
        await settled();
        return [log.filter(([what]) => what === "send"), saver.state, kept.text];
    """
    answers = [{"revision": revision} for revision in (6, 7, 8, 9)]
    sent, state, kept = run("saver", script, {"answers": answers})
    assert [(name, base, target) for _, name, _, base, target, _ in sent] == [
        ("one", 5, None),
        ("two", 6, None),
        ("other", None, None),
        ("back", 7, 6),
    ]
    assert len({client_id for _, _, client_id, *_ in sent}) == 4
    assert re.fullmatch("[0-9a-f]{32}", sent[0][2])
    assert [waiting for *_, waiting in sent] == [1, 3, 2, 1]  # each was written down before it was sent
    assert state["kind"] == "idle" and state["saved"]["revision"] == 9 and kept == "[]"


def test_without_an_answer_the_same_save_is_sent_again(run):
    script = f"""{SAVER}
        saver.add({{ id: "a", name: "one", base: null }});
        await settled();
        return log;
    """
    answers = [{"status": 0}, {"status": 401}, {"status": 507}, {"revision": 1}]
    log = run("saver", script, {"answers": answers})
    sent = [line for line in log if line[0] == "send"]
    assert len(sent) == 4 and len({client_id for _, _, client_id, *_ in sent}) == 1
    kinds = [kind for kind, *_ in log if kind != "send"]
    assert kinds == ["saving", "failed", "failed", "failed", "acknowledged", "idle"]


def test_what_was_not_saved_is_sent_after_a_reload(run):
    kept = [{"id": "a", "name": "one", "client_id": "a1", "base": 5}]
    kept.append({"id": "a", "name": "two", "client_id": "b2"})
    script = f"{SAVER} saver.resume(); await settled(); return log.filter(([what]) => what === 'send');"
    answers = [{"revision": 6}, {"revision": 7}]
    sent = run("saver", script, {"answers": answers, "kept": json.dumps(kept)})
    assert [line[1:4] for line in sent] == [["one", "a1", 5], ["two", "b2", 6]]


@pytest.mark.parametrize("keep_mine", [True, False])
def test_a_conflict_waits_for_the_person(run, keep_mine):
    script = f"""{SAVER}
        saver.add({{ id: "a", name: "one", base: null }});
        saver.add({{ id: "a", name: "two", base: null }});
        await settled();
        const waited = log.filter(([what]) => what === "send").length;
        saver.decide({json.dumps(keep_mine)});
        await settled();
        return [waited, log.filter(([what]) => what === "send").map((line) => [line[1], line[3]]), kept.text];
    """
    theirs = {"status": 409, "theirs": {"revision": 8}}
    answers = [theirs, {"revision": 9}, {"revision": 10}]
    expected = [["one", None], ["one", 8], ["two", 9]] if keep_mine else [["one", None]]
    found = run("saver", script, {"answers": answers})
    assert found == [1, expected, "[]"]


def test_a_hopeless_save_does_not_hold_up_the_others(run):
    script = f"""{SAVER}
        saver.add({{ id: "a", name: "bad", base: 2 }});
        saver.add({{ id: "a", name: "good", base: 2 }});
        await settled();
        return log.filter(([what]) => what !== "saving").map((line) => [line[0], line[1], line[3]]);
    """
    log = run("saver", script, {"answers": [{"status": 400}, {"revision": 3}]})
    assert log == [
        ["send", "bad", 2],
        ["failed", None, None],
        ["refused", "bad", None],
        ["send", "good", 2],
        ["acknowledged", "good", None],
        ["idle", None, None],
    ]


def test_a_draft_is_of_an_image_and_not_of_its_position(run):
    """Only the image of the draft's id is offered it; where that one is absent, the others go first."""
    ids = ["val/a/1.png", "val/a/10.png", "__proto__", "val/鳥 <b>\"'&.png"]
    kept = [{"id": name, "name": name, "client_id": f"c{i}", "base": None} for i, name in enumerate(ids)]
    script = f"""{SAVER}
        const offered = ["val/a/1.png", "val/a/2.png", "1.png", "0", "", "__proto__", "constructor"]
          .map((id) => saver.waiting(id)?.client_id ?? null);
        saver.resume();
        const acknowledged = () => log.filter(([what]) => what === "acknowledged").map((line) => line[1]);
        for (let i = 0; i < 400 && acknowledged().length < 3; i++) {{
          await new Promise((resolve) => setTimeout(resolve, 5));
        }}
        const left = JSON.parse(kept.text);
        absent = null; // it is there again
        await settled();
        return [offered, acknowledged(), left, kept.text];
    """
    for status in (410, 424):
        answers = [{"revision": revision} for revision in (1, 2, 3, 4)]
        facts = {"answers": answers, "kept": json.dumps(kept), "absent": ids[0], "status": status}
        offered, done, left, at_last = run("saver", script, facts)
        assert offered == ["c0", None, None, None, None, "c2", None]
        assert done == [*ids[1:], ids[0]] and left == kept[:1] and at_last == "[]"


def test_drafts_are_kept_apart_by_what_is_edited(run):
    """A tab takes over those of closed tabs of its run, part, store and grid, whatever their names."""
    works = [["r", "val", "e"], ["r", "val", "e.sqlite"], ["r", "val.e", ""], ["drafts.", '"]', "e"], ["r"]]
    script = """
        localStorage.clear();
        a.forEach((work, i) => localStorage.setItem(`sigmoid_vit.drafts.${work}.0.${i}`, `[${i}]`));
        const stores = [];
        for (const work of a) stores.push(await m.openDrafts(work));
        const found = stores.map((store) => store.read());
        stores[0].write('["mine"]');
        const living = (await m.openDrafts(a[0])).read(); // of the tab that is still there
        return [found, living, stores.map((store) => store.read()), Object.keys(localStorage).length];
    """
    found, living, after, count = run("storage", script, [json.dumps(work) for work in works])
    assert found == [f"[{i}]" for i in range(5)] and living == "[]"
    assert after == ['["mine"]', *found[1:]] and count == 6


def test_the_colours_are_viridis(run):
    values = np.linspace(0, 1, 101)
    colours = np.array(run("view", "return a.map(m.colour);", values.tolist()))
    expected = matplotlib.colormaps["viridis"](values)[:, :3] * 255
    assert np.abs(colours - expected).max() < 8
    assert run("view", "return [m.colour(-1), m.colour(2)];") == [[68, 1, 84], [253, 231, 37]]


def test_every_text_is_there_in_both_languages():
    used = set(re.findall(r'data-(?:text|label|hint)="(\w+)"', HTML))
    used |= {name for script in SCRIPTS.values() for name in re.findall(r'\bt\("(\w+)"', script)}
    assert not used - set(TEXTS)
    for name, (english, japanese) in TEXTS.items():
        assert english and japanese, name
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", japanese)), name
        assert (english == japanese) == (name == "ok"), name
        assert not re.search("[\u3040-\u9fff]", english), name
        assert english.count("|") == japanese.count("|"), name
    sources = HTML + "".join(SCRIPTS.values())
    stems = [*re.findall(r"t\(`(\w+?_)\$", sources), "key_"]
    for name in set(TEXTS) - used:
        quoted = re.search(rf'"{name}"', sources)
        assert quoted or name.startswith(tuple(stems)) or re.match("(layers|queries|heads)_", name), name


def test_the_page_keeps_to_its_own_rules():
    lines = [line for script in SCRIPTS.values() for line in script.splitlines()]
    assert len(lines) < 1200 and max(map(len, lines)) <= 110
    everything = [HTML, (STATIC / "style.css").read_text(), *SCRIPTS.values()]
    for text in everything:
        assert not re.search(r"https?://|@import|innerHTML|outerHTML|insertAdjacentHTML|\beval\(", text)
    assert not re.search(r"\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|<style", HTML)
    assert not re.findall(r'(?:src|href)="/', HTML)

"""The editor's modules without a page: the grid of numbers, undo, the queue of saves, drafts, texts."""

import functools
import json
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import matplotlib
import numpy as np
import pytest
from helpers.browser import PAGE, open_browser
from matplotlib.path import Path as Polygon

TEXTS = json.loads((PAGE / "texts.json").read_text(encoding="utf-8"))
HTML = (PAGE / "index.html").read_text(encoding="utf-8")
SCRIPTS = {str(f.relative_to(PAGE)): f.read_text(encoding="utf-8") for f in sorted(PAGE.rglob("*.js"))}
ROOMS = ("base", "numbers", "work", "screen")  # of the page, from the ground up


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def evaluate():
    """evaluate(module, script, argument): what the script returns, in which the module is `m`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=PAGE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with open_browser() as browser:
        page = browser.new_page()
        page.goto(f"{address}style.css")

        def evaluate_in(module, script, argument=None):
            call = f"async (a) => {{ const m = await import('{address}{module}.js'); {script} }}"
            return page.evaluate(call, argument)

        yield evaluate_in
    server.shutdown()
    server.server_close()


def painted(evaluate, brush, points, rows=8, columns=8, own=0.5):
    """Value and mark of every cell after a stroke through the points (x, y)."""
    script = """
        const grid = new m.Grid([a.rows, a.columns]);
        const stroke = new m.Stroke(grid, new Float32Array(a.rows * a.columns).fill(a.own), a.brush);
        for (const [x, y] of a.points) stroke.to({ x, y });
        return { value: [...grid.value], edited: [...grid.edited] };
    """
    brush = {"tool": "set", "target": 0, "size": 1, "softness": 0} | brush
    facts = {"rows": rows, "columns": columns, "own": own, "brush": brush, "points": points}
    found = evaluate("numbers/grid", script, facts)
    return np.array(found["value"]).reshape(rows, columns), np.array(found["edited"]).reshape(rows, columns)


def test_a_grid_is_its_bytes(evaluate):
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
    found = evaluate("numbers/grid", script, [values, marks])
    expected = np.array(values, "<f4").tobytes() + np.array(marks, np.uint8).tobytes()
    assert bytes(found["bytes"]) == expected
    assert np.array_equal(np.array(found["value"], np.float32), np.array(values, np.float32))
    assert found["edited"] == marks
    assert found["same"]
    assert found["count"] == 4
    assert found["copied"]
    with pytest.raises(Exception, match="a grid of 29 bytes"):
        evaluate("numbers/grid", "new m.Grid([2, 3], new ArrayBuffer(29))")


def test_a_dot_paints_the_cell_it_lies_in(evaluate):
    for x, y in [(2.01, 5.99), (2.5, 5.5), (2.99, 5.01)]:
        value, edited = painted(evaluate, {"target": 0.3}, [(x, y)])
        assert edited.sum() == 1
        assert value[5, 2] == pytest.approx(0.3)
    assert painted(evaluate, {}, [(-3, -3)])[1].sum() == 0


def test_a_fast_stroke_leaves_no_gap_and_equals_a_slow_one(evaluate):
    rng = np.random.RandomState(0)
    for size in (1, 2, 3.5):
        for _ in range(10):
            start, end = rng.uniform(0, 8, 2), rng.uniform(0, 8, 2)
            brush = {"size": size, "softness": 0.5, "target": 0.9}
            line = [start + t * (end - start) for t in np.linspace(0, 1, 50)]
            fast, marks = painted(evaluate, brush, [start.tolist(), end.tolist()])
            slow, slow_marks = painted(evaluate, brush, [point.tolist() for point in line])
            crossed = {(int(y), int(x)) for x, y in line}
            assert all(marks[cell] for cell in crossed)
            assert np.array_equal(marks, slow_marks)
            assert np.allclose(fast, slow, atol=1e-6)


def test_a_soft_edge_on_paper(evaluate):
    """Diameter 6, softness 1: at distance d of 3 the effect is (1 + cos(pi d / 3)) / 2."""
    value, edited = painted(evaluate, {"size": 6, "softness": 1, "target": 1}, [(4.5, 4.5)], own=0.2)
    for column in range(8):
        d = abs(column - 4)
        weight = (1 + np.cos(np.pi * d / 3)) / 2 if d < 3 else 0
        assert value[4, column] == pytest.approx(0.2 + weight * 0.8 if d < 3 else 0, abs=1e-6)
    assert np.array_equal(value, value.T)
    assert edited.sum() == 21  # nearer than 3, effect over 0.01


def test_raise_lower_and_erase(evaluate):
    value, _ = painted(evaluate, {"tool": "raise"}, [(1.5, 1.5), (1.6, 1.5), (1.5, 1.5)], own=0.5)
    assert value[1, 1] == pytest.approx(0.7)  # one stroke counts once, however often it passes
    assert painted(evaluate, {"tool": "raise"}, [(1.5, 1.5)], own=0.95)[0][1, 1] == 1
    assert painted(evaluate, {"tool": "lower"}, [(1.5, 1.5)], own=0.1)[0][1, 1] == 0
    script = """
        const grid = new m.Grid([4, 4]);
        for (let cell = 0; cell < 16; cell++) grid.set(cell, 0.4);
        const stroke = new m.Stroke(grid, new Float32Array(16), { tool: "erase", size: 1, softness: 0 });
        stroke.to({ x: 0.5, y: 0.5 });
        stroke.to({ x: 3.5, y: 0.5 });
        return [grid.count, stroke.before.count, grid.over(new Float32Array(16).fill(0.9))[5]];
    """
    assert evaluate("numbers/grid", script) == pytest.approx([12, 16, 0.4])


@pytest.mark.parametrize("inside", [True, False])
def test_a_polygon_fills_the_cells_whose_centre_it_holds(evaluate, inside):
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
        edited, value = evaluate("numbers/grid", script, {"points": points.tolist(), "inside": inside})
        expected = Polygon(points).contains_points(centres) == inside
        assert np.array_equal(np.array(edited, bool), expected)
        assert np.allclose(value, 0.6 * expected)


def test_a_polygon_too_small_to_hold_a_centre_means_the_cells_of_its_corners(evaluate):
    script = """
        return [true, false].map((inside) => {
          const grid = new m.Grid([3, 4]);
          m.fillPolygon(grid, a.map(([x, y]) => ({ x, y })), 0, inside);
          return [[...grid.edited], grid.isErased];
        });
    """
    points = [[0.9, 1.7], [1.3, 1.7], [1.1, 1.9]]  # in two cells of the row in the middle
    (within, _), (around, erased) = evaluate("numbers/grid", script, points)
    assert within == [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert around == [1 - mark for mark in within]
    assert not erased
    assert evaluate("numbers/grid", script, [[-1, 0], [-1, 1], [-2, 1]])[1] == [[1] * 12, True]  # beside it


def test_undo_and_redo(evaluate):
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
    assert evaluate("numbers/undo", script) == ["b2", 7, True, None, True, 7, kept]


SAVER = """
    const log = [];
    const kept = { text: a.kept ?? null };
    const responses = [...a.responses];
    let absent = a.absent; // id of an image that is not there
    const store = { read: () => kept.text, write: (text) => { kept.text = text; } };
    const saver = new m.Saver(store, {
      send: async (change) => {
        log.push(["send", change.name, change.client_id, change.base, change.target ?? null,
          JSON.parse(kept.text).length]);
        await new Promise((resolve) => setTimeout(resolve, 5));
        if (change.id === absent) throw { status: a.status };
        const response = responses.shift();
        if (response.status !== undefined) throw response;
        return response;
      },
      saverChanged: (state) => log.push([state.kind]),
      acknowledged: (change, response) => log.push(["acknowledged", change.name, response.revision]),
      refused: (change) => log.push(["refused", change.name]),
    }, 10);
    const settled = async () => {
      for (let i = 0; i < 200 && (saver.pending.length && saver.state.kind !== "conflict"); i++) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
"""


def test_saves_go_one_after_the_other_each_on_top_of_the_last(evaluate):
    script = f"""{SAVER}
        const first = saver.add({{ id: "a", name: "one", base: 5 }});
        saver.add({{ id: "a", name: "two", base: 5 }});
        saver.add({{ id: "b", name: "other", base: null }});
        saver.add({{ id: "a", name: "back", base: 5, target: first }});
        await settled();
        return [log.filter(([what]) => what === "send"), saver.state, kept.text];
    """
    responses = [{"revision": revision} for revision in (6, 7, 8, 9)]
    sent, state, kept = evaluate("numbers/saver", script, {"responses": responses})
    assert [(name, base, target) for _, name, _, base, target, _ in sent] == [
        ("one", 5, None),
        ("two", 6, None),
        ("other", None, None),
        ("back", 7, 6),
    ]
    assert len({client_id for _, _, client_id, *_ in sent}) == 4
    assert re.fullmatch("[0-9a-f]{32}", sent[0][2])
    assert [waiting for *_, waiting in sent] == [1, 3, 2, 1]  # each was written down before it was sent
    assert state["kind"] == "idle"
    assert state["saved"]["revision"] == 9
    assert kept == "[]"


def test_without_a_response_the_same_save_is_sent_again(evaluate):
    script = f"""{SAVER}
        saver.add({{ id: "a", name: "one", base: null }});
        await settled();
        return log;
    """
    responses = [{"status": 0}, {"status": 401}, {"status": 507}, {"revision": 1}]
    log = evaluate("numbers/saver", script, {"responses": responses})
    sent = [line for line in log if line[0] == "send"]
    assert len(sent) == 4
    assert len({client_id for _, _, client_id, *_ in sent}) == 1
    kinds = [kind for kind, *_ in log if kind != "send"]
    assert kinds == ["saving", "failed", "failed", "failed", "acknowledged", "idle"]


def test_what_was_not_saved_is_sent_after_a_reload(evaluate):
    kept = [{"id": "a", "name": "one", "client_id": "a1", "base": 5}]
    kept.append({"id": "a", "name": "two", "client_id": "b2"})
    script = f"{SAVER} saver.resume(); await settled(); return log.filter(([what]) => what === 'send');"
    responses = [{"revision": 6}, {"revision": 7}]
    sent = evaluate("numbers/saver", script, {"responses": responses, "kept": json.dumps(kept)})
    assert [line[1:4] for line in sent] == [["one", "a1", 5], ["two", "b2", 6]]


@pytest.mark.parametrize("take_theirs", [False, True])
def test_a_conflict_waits_for_the_person_and_drops_nothing(evaluate, take_theirs):
    theirs = 'saver.add({ id: "a", name: "theirs", base: null, target: 8 });' if take_theirs else ""
    script = f"""{SAVER}
        saver.add({{ id: "a", name: "one", kind: "accept", base: null }});
        saver.add({{ id: "a", name: "two", base: null }});
        await settled();
        const waited = log.filter(([what]) => what === "send").length;
        const first = saver.pending[0];
        {theirs}
        saver.decide();
        await settled();
        const sent = log.filter(([what]) => what === "send").map((line) => [line[1], line[3]]);
        return [waited, sent, kept.text, first.kind];
    """
    responses = [{"status": 409, "theirs": {"revision": 8}}, *({"revision": i} for i in (9, 10, 11))]
    expected = [["one", None], ["one", 8], ["two", 9]] + [["theirs", 10]] * take_theirs
    found = evaluate("numbers/saver", script, {"responses": responses})
    assert found == [1, expected, "[]", "edit"]  # what there was to accept is not the newest any more


def test_a_store_that_has_lost_the_image_takes_the_change_without_a_question(evaluate):
    script = f"""{SAVER}
        saver.add({{ id: "a", name: "one", base: 37 }});
        await settled();
        return [log.filter(([what]) => what === "send").map((line) => [line[1], line[3]]), kept.text];
    """
    responses = [{"status": 409, "theirs": None}, {"revision": 1}]
    found = evaluate("numbers/saver", script, {"responses": responses})
    assert found == [[["one", 37], ["one", None]], "[]"]


def test_a_hopeless_save_does_not_hold_up_the_others(evaluate):
    script = f"""{SAVER}
        saver.add({{ id: "a", name: "bad", base: 2 }});
        saver.add({{ id: "a", name: "good", base: 2 }});
        await settled();
        return log.filter(([what]) => what !== "saving").map((line) => [line[0], line[1], line[3]]);
    """
    log = evaluate("numbers/saver", script, {"responses": [{"status": 400}, {"revision": 3}]})
    assert log == [
        ["send", "bad", 2],
        ["failed", None, None],
        ["refused", "bad", None],
        ["send", "good", 2],
        ["acknowledged", "good", None],
        ["idle", None, None],
    ]


def test_a_draft_is_of_an_image_and_not_of_its_position(evaluate):
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
        responses = [{"revision": revision} for revision in (1, 2, 3, 4)]
        facts = {"responses": responses, "kept": json.dumps(kept), "absent": ids[0], "status": status}
        offered, done, left, at_last = evaluate("numbers/saver", script, facts)
        assert offered == ["c0", None, None, None, None, "c2", None]
        assert done == [*ids[1:], ids[0]]
        assert left == kept[:1]
        assert at_last == "[]"


def test_drafts_are_kept_apart_by_what_is_edited(evaluate):
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
    found, living, after, count = evaluate("base/storage", script, [json.dumps(work) for work in works])
    assert found == [f"[{i}]" for i in range(5)]
    assert living == "[]"
    assert after == ['["mine"]', *found[1:]]
    assert count == 6


def test_the_colours_are_viridis(evaluate):
    values = np.linspace(0, 1, 101)
    colours = np.array(evaluate("screen/view", "return a.map((value) => m.colour(value));", values.tolist()))[
        :, :3
    ]
    expected = matplotlib.colormaps["viridis"](values)[:, :3] * 255
    assert np.abs(colours - expected).max() < 8
    assert evaluate("screen/view", "return [m.colour(-1), m.colour(2)];") == [
        [68, 1, 84, 255],
        [253, 231, 37, 255],
    ]


def test_a_fixed_scale_is_the_same_for_all_maps(evaluate):
    """Of a decision map, it ends where the probability is halved; beyond, the colour is full."""
    script = """
        const colours = await import(a.module);
        const maps = [[0.2, 0.4], [0.1, 5]].map((values) => [false, true].map((isSigned) => {
          const scale = m.scaleOf(values, isSigned);
          return [m.scaleInForce({ scale }), m.scaleInForce({ scale, display: { fixed: true } })]; }));
        const [, half] = maps[0][1];
        return [maps, colours.colour(-9, half), colours.colour(half.high / 2, half)];
    """
    maps, full, faint = evaluate("numbers/scale", script, {"module": "./screen/view.js"})
    (plain, signed), (other_plain, other_signed) = maps
    assert plain[0] == {"low": 0.2, "high": 0.4, "isSigned": False}
    assert signed[0] == {"low": -0.4, "high": 0.4, "isSigned": True}
    assert plain[1] == other_plain[1] == {"low": 0, "high": 1, "isSigned": False}
    assert signed[1] == other_signed[1]
    assert np.exp(-signed[1]["high"]) == pytest.approx(0.5)
    assert (full[3], faint[3]) == (255, 128)
    script = "return a.map((values) => m.isFlat(m.scaleOf(values, true)));"
    assert evaluate("numbers/scale", script, [[0.002, -0.009], [0.002, -0.02]]) == [True, False]


def test_the_close_up_of_a_photograph_is_as_sharp_as_the_screen(evaluate):
    """It holds what is visible, has at least a pixel for each of the screen, and is bounded."""
    random = np.random.RandomState(0)
    script = "return a.map((facts) => { const found = m.closeUpOf(facts); return [found, found && "
    script += "m.covers(found, found, facts.visible, facts.size)]; });"
    asked = []
    for _ in range(300):
        width, height = random.randint(1100, 9000, 2).tolist()
        (left, right), (top, bottom) = (np.sort(random.rand(2)) for _ in range(2))
        visible = {"left": left, "right": right, "top": top, "bottom": bottom}
        asked.append({"size": [width, height], "overview": 1024, "visible": visible})
        asked[-1]["shown"] = float(np.exp(random.uniform(6, 11)))
    seen = 0
    for facts, (region, covers) in zip(asked, evaluate("numbers/close_up", script, asked), strict=True):
        (width, height), shown = facts["size"], facts["shown"]
        if region is None:
            assert shown <= 1024 or width / 8 <= 1024 or min(np.ptp(list(facts["visible"].values())), 0) == 0
            continue
        seen += 1
        assert covers
        assert 0 <= region["left"] < region["right"] <= width
        assert 0 <= region["top"] < region["bottom"] <= height
        area = (region["right"] - region["left"]) * (region["bottom"] - region["top"])
        shrink = region["shrink"]
        assert area <= 4_000_000 * shrink**2
        if shrink > 1:  # as few pixels as are enough, or as may be
            assert width / shrink >= shown or area > 4_000_000 * (shrink / 2) ** 2
    assert seen > 100


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
    assert len(lines) < 3600
    assert max(map(len, lines)) <= 110
    everything = [HTML, (PAGE / "style.css").read_text(), *SCRIPTS.values()]
    for text in everything:
        assert not re.search(r"https?://|@import|innerHTML|outerHTML|insertAdjacentHTML|\beval\(", text)
    assert not re.search(r"\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|<style", HTML)
    assert not re.findall(r'(?:src|href)="/', HTML)


def test_a_key_presses_one_button():
    """Of those that are shown at the same time: one banner is of propagated edits, one of a review."""
    banner = r'<div id="%s".*?</div>'
    for other in ("review", "verdict"):
        shown = re.sub(banner % other, "", HTML, flags=re.DOTALL)
        keys = [key for named in re.findall(r'data-keys="([^"]+)"', shown) for key in named.split()]
        assert sorted(keys) == sorted(set(keys))


def test_a_room_of_the_page_uses_only_rooms_below_it():
    for file, script in SCRIPTS.items():
        *room, _ = file.split("/")
        rooms = ROOMS[: ROOMS.index(*room) + 1] if room else ROOMS  # main.js uses all
        for used in re.findall(r'^import [^;]*?"([^"]+[.]js)"', script, re.MULTILINE):
            place = (PAGE / file).parent / used
            assert place.is_file(), f"{file} imports {used}"
            assert place.resolve().parent.name in rooms, f"{file} imports {used}"

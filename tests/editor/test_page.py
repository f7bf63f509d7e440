"""The editor as a person uses it: a real browser, the real server, a network that reads a square."""

import os
import re
import shutil
import zipfile
from io import BytesIO

import numpy as np
import pytest
import torch
from helpers.browser import (
    BIRD,
    GRID,
    HOSTILE,
    HOSTILE_FILE,
    ROOT,
    SQUARE,
    TRAINING,
    Editor,
    cell,
    history,
    is_saved,
    is_stored,
    make_images,
    marked,
    open_browser,
    open_image,
    paint,
    predicted_edit,
    shows,
    stored,
)
from helpers.runs import train
from PIL import Image

from sigmoid_vit import AttentionEdit
from sigmoid_vit.data.digits import DigitsDecoy
from sigmoid_vit.edits.store import EditStore


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def run(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    make_images(folder / "data")
    return train(folder, "--dataset_path", str(folder / "data"), *TRAINING.split())


@pytest.fixture(scope="module")
def editor(run):
    """One server for all tests, each of which edits images of its own."""
    edits = run.folder.parent / "edits.sqlite"
    with EditStore(edits) as store:
        store.save_many([predicted_edit(run.folder.parent / "data", f"{i:03d}.png") for i in (90, 91, 92)])
    editor = Editor(run.folder, edits, "test").start()
    yield editor
    editor.kill()


@pytest.fixture
def visit(browser):
    """visit(editor, image): a page of its own with the image open; any error on the page fails the test."""
    problems, contexts = [], []

    def visit(editor, image=None, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 720}} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)  # other work may slow the machine
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        page.on("console", lambda m: problems.append(m.text) if "Content Security" in m.text else None)
        page.goto(editor.link)
        page.locator("#items button").first.wait_for()
        if image:
            open_image(page, image)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not problems


def test_paint_until_the_decision_changes_undo_and_reload(editor, visit):
    page = visit(editor, "001.png")
    assert page.url == f"http://127.0.0.1:{editor.port}/"  # the token is gone from the address
    shows(page, "#badge", "^wrong$")
    page.keyboard.press("0")
    paint(page, SQUARE)
    shows(page, "#badge", "^now right$")
    is_saved(page, 1)
    edit = stored(editor, "001.png")
    assert marked(edit) == [SQUARE] and edit.value[SQUARE] == 0 and edit.author == "first author"
    assert (edit.layers, edit.heads, edit.queries) == ("all", None, "all")

    paint(page, (2, 2), (3, 2))
    is_saved(page, 3)
    page.keyboard.press("Control+z")
    is_saved(page, 1)
    page.keyboard.press("Control+z")
    shows(page, "#badge", "^wrong$")
    is_saved(page, 0)
    assert stored(editor, "001.png") is None and len(history(editor, "001.png")) == 4
    page.reload()
    shows(page, "#image-name", "001.png")
    page.keyboard.press("Control+Shift+z")
    shows(page, "#badge", "^now right$")
    is_saved(page, 1)
    page.reload()
    shows(page, "#badge", "^now right$")
    shows(page, "#edited-count", "^edited cells: 1$")
    page.keyboard.press("Control+y")
    is_saved(page, 3)
    assert marked(stored(editor, "001.png")) == [SQUARE, (2, 2), (3, 2)]
    assert page.locator("#redo").is_disabled()


def test_the_same_by_keyboard_alone(editor, visit):
    page = visit(editor, "002.png")
    page.locator("#search").focus()
    for _ in range(100):  # every control can be reached
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "canvas":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for key in ["ArrowUp"] * 4 + ["ArrowLeft"] * 4:  # the first one shows the cursor in the middle
        page.keyboard.press(key)
    shows(page, "#announce", "row 1, column 1: ")
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    shows(page, "#badge", "^now right$")
    shows(page, "#announce", r"row 1, column 1: 0\.00, edited \(network: 0\.\d\d\)")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("9")
    page.keyboard.press("Space")
    is_saved(page, 2)
    assert stored(editor, "002.png").value[0, 1] == pytest.approx(0.9)
    page.keyboard.press("Control+z")
    is_saved(page, 1)
    page.fill("#search", "")
    page.locator("#items button").nth(5).wait_for()
    page.locator("#canvas").focus()
    page.keyboard.press("n")
    page.keyboard.type("0 is erased")  # keys typed into a field are text
    page.keyboard.press("Control+Enter")
    page.locator("#image-name", has_not_text="002.png").wait_for()
    assert stored(editor, "002.png").note == "0 is erased" and marked(stored(editor, "002.png")) == [SQUARE]


def test_every_control_is_reached_by_tab_and_has_a_name(editor, visit):
    page = visit(editor, "003.png")
    page.locator("#history, #next-steps").evaluate_all("all => all.forEach((each) => { each.open = true; })")
    controls = "button:enabled, input, select, summary, #canvas"
    everything = page.locator(controls).evaluate_all(
        """all => all.filter((each) => each.checkVisibility() && !each.closest("#items"))
                     .map((each) => each.id || each.dataset.tool || each.textContent)"""
    )
    reached = set()
    page.locator("#author").focus()
    for _ in range(len(everything) + 20):
        reached.add(
            page.evaluate("""() => { const it = document.activeElement;
                                     return it.id || it.dataset.tool || it.textContent; }""")
        )
        page.keyboard.press("Tab")
    assert set(everything) <= reached and len(everything) > 35
    unnamed = page.locator(controls).evaluate_all(
        """all => all.filter((each) => !(each.labels?.[0]?.textContent.trim() || each.ariaLabel
            || each.textContent.trim() || each.ariaLabelledByElements?.length))
            .map((each) => each.outerHTML)"""
    )
    assert unnamed == []


def test_skip_with_a_reason(editor, visit):
    page = visit(editor, "004.png")
    shows(page, "#image-status", "to do")
    skipped = int(re.search(r"(\d+) skipped", page.locator("#progress-text").text_content())[1])
    page.keyboard.press("s")
    page.keyboard.press("Enter")  # without a reason the dialog stays
    page.keyboard.type("the label is wrong")
    page.keyboard.press("Enter")
    shows(page, "#saved", "^saved .*, revision")
    shows(page, "#progress-text", f" {skipped + 1} skipped$")
    shows(page, "#stage-message", "no further image")  # of this name
    edit = stored(editor, "004.png")
    assert edit.note == "skipped: the label is wrong" and not edit.edited.any()
    page.select_option("#status-filter", "skipped")
    page.locator("#items button[title$='bird/004.png']").click()
    shows(page, "#image-status", "skipped")


def test_a_killed_server_loses_nothing(run, visit):
    editor = Editor(run.folder, run.folder.parent / "killed.sqlite", "test").start()
    try:
        page = visit(editor, "005.png")
        page.keyboard.press("0")
        paint(page, SQUARE)
        is_saved(page, 1)
        editor.kill()
        paint(page, (1, 1))
        shows(page, "#saved", "^NOT SAVED")
        assert page.locator("#saved").evaluate("it => getComputedStyle(it).fontWeight") == "700"
        page.keyboard.press("5")
        paint(page, (2, 2), (2, 4))
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+Shift+z")
        shows(page, "#edited-count", "^edited cells: 5$")
        editor.start()  # with another token
        shows(page, "#saved", "open the address with the token")
        page.context.new_page().goto(editor.link)  # hands it to the other tabs, which start anew
        shows(page, "#image-name", "005.png")
        is_saved(page, 5)
        paint(page, (5, 5))
        is_saved(page, 6)
        page.keyboard.press("Control+z")
        is_saved(page, 5)
        edits = history(editor, "005.png")
        assert [len(marked(edit)) for edit in edits] == [1, 2, 5, 2, 5, 6, 5]
        assert [edit.base for edit in edits] == [None, 1, 2, 3, 4, 5, 6]
        assert edits[-1].value[2, 3] == 0.5 and edits[-1].note == ""
    finally:
        editor.kill()


def test_a_lost_answer_is_one_revision(editor, visit):
    page = visit(editor, "006.png")
    lost = []

    def lose(route):
        answer = route.fetch()
        lost.append(answer.json()["revision"])
        route.abort() if len(lost) == 1 else route.fulfill(response=answer)

    page.route("**/edit?*base=*", lose)
    paint(page, SQUARE)
    shows(page, "#saved", "^NOT SAVED")
    is_saved(page, 1)
    assert len(lost) == 2 and lost[0] == lost[1] and len(history(editor, "006.png")) == 1


def test_a_closed_tab_leaves_its_draft_to_the_next(editor, visit):
    page = visit(editor, "007.png")
    page.locator("#scope-queries").select_option("cls")
    page.route("**/edit?*base=*", lambda route: route.abort())
    paint(page, (4, 4))
    shows(page, "#saved", "^NOT SAVED")
    context = page.context
    page.close()
    assert stored(editor, "007.png") is None
    page = context.new_page()
    page.goto(editor.link)
    shows(page, "#saved", "^saved")
    assert marked(stored(editor, "007.png")) == [(4, 4)]
    assert stored(editor, "007.png").queries == "cls"
    open_image(page, "007.png")
    assert page.locator("#scope-queries").input_value() == "cls"


@pytest.mark.parametrize(("name", "choice"), [("008.png", "#keep-mine"), ("009.png", "#take-theirs")])
def test_two_tabs_in_conflict(editor, visit, name, choice):
    first, second = visit(editor, name), visit(editor, name)
    second.fill("#author", "second author")
    second.locator("#author").blur()
    paint(first, (1, 1))
    is_saved(first, 1)
    paint(second, (3, 3), (3, 4))
    second.locator("#conflict").wait_for()
    shows(second, "#conflict-image", f"/{name}$")
    shows(
        second,
        "#theirs-caption",
        r"first author, .*, revision \d+\s+edited cells: 1\s+all layers\s+all heads",
    )
    shows(second, "#mine-caption", r"edited cells: 2\s+all layers")
    second.keyboard.press("Escape")  # nothing is decided in passing
    images = "['mine', 'theirs'].map((id) => document.querySelector(`#${id} canvas`).toDataURL())"
    second.wait_for_function(f"() => new Set({images}).size === 2")
    assert marked(stored(editor, name)) == [(1, 1)]
    second.locator(choice).click()
    if choice == "#keep-mine":
        is_saved(second, 2)
        assert [edit.author for edit in history(editor, name)] == ["first author", "second author"]
        assert marked(stored(editor, name)) == [(3, 3), (3, 4)]
    else:
        shows(second, "#edited-count", "^edited cells: 1$")
        assert len(history(editor, name)) == 1
        paint(second, (5, 5))
        is_saved(second, 2)
        assert marked(stored(editor, name)) == [(1, 1), (5, 5)]


def test_a_file_that_is_away_for_a_while_loses_nothing(run, editor, visit):
    page, file = visit(editor, "071.png"), run.folder.parent / f"data/test/{BIRD}/071.png"
    file.rename(file.with_suffix(".away"))
    paint(page, (2, 2))
    shows(page, "#saved", "^NOT SAVED: the file of .*/071.png cannot be read.* The change is kept")
    open_image(page, "072.png")
    paint(page, (1, 1))  # is saved meanwhile
    is_stored(editor, "072.png", [(1, 1)])
    shows(page, "#saved", "^NOT SAVED: .*/071.png")
    open_image(page, "071.png")
    shows(page, "#stage-message", "could not be loaded")
    assert not page.locator("#true-class").is_visible() and not page.locator("#canvas").is_visible()
    assert page.locator("#skip").evaluate("it => it.inert") and page.locator("#next").is_enabled()
    page.keyboard.press("1")  # does no harm
    file.with_suffix(".away").rename(file)
    shows(page, "#saved", "^saved")
    page.locator("#next").click()
    open_image(page, "071.png")
    shows(page, "#edited-count", "^edited cells: 1$")
    assert marked(stored(editor, "071.png")) == [(2, 2)]


def test_the_scope_of_an_image_is_not_that_of_the_next(editor, visit):
    first, second = visit(editor, "073.png"), visit(editor)
    paint(first, (1, 1))
    first.select_option("#scope-layers", "0")
    is_saved(first, 1)
    open_image(second, "073.png")
    assert second.locator("#scope-layers").input_value() == "0"
    for page, layers in ((second, "all"), (first, "0")):  # who chose a scope keeps it
        open_image(page, "074.png")
        assert page.locator("#scope-layers").input_value() == layers


def test_a_note_waits_for_its_edit(editor, visit):
    page = visit(editor, "075.png")
    page.fill("#note", "scratch at the rim")
    open_image(page, "076.png")
    assert page.locator("#note").input_value() == ""
    page.reload()
    open_image(page, "075.png")
    assert page.locator("#note").input_value() == "scratch at the rim"
    paint(page, (1, 1))
    is_saved(page, 1)
    assert stored(editor, "075.png").note == "scratch at the rim"
    open_image(page, "076.png")
    page.fill("#note", "out of focus")
    page.keyboard.press("Tab")
    page.locator("#skip").click()
    assert page.locator("#skip-reason").input_value() == "out of focus"
    page.locator("#skip-dialog .primary").click()
    open_image(page, "076.png")
    shows(page, "#image-status", "^skipped: out of focus$")
    assert page.locator("#note").input_value() == ""  # the reason is no note on an edit
    paint(page, (1, 1))
    is_saved(page, 1)
    assert stored(editor, "076.png").note == ""


def test_undo_pressed_quickly_goes_back_as_often(editor, visit):
    page = visit(editor, "077.png")
    for count, where in enumerate([(1, 1), (2, 3), (4, 1)], 1):
        paint(page, where)
        is_saved(page, count)
    page.reload()
    shows(page, "#edited-count", "^edited cells: 3$")
    for _ in range(3):
        page.keyboard.press("Control+z")
    shows(page, "#edited-count", "^edited cells: 0$")


def test_the_cell_cursor_stays_in_sight(editor, visit):
    page = visit(editor, "078.png")
    for _ in range(8):
        page.keyboard.press("+")
    for _ in range(GRID):
        page.keyboard.press("ArrowRight")
    page.locator("#announce", has_text=f"column {GRID}").wait_for(state="attached")
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 28, box["y"] + box["height"] / 2)
    shows(page, "#readout", f"column {GRID}:")


@pytest.mark.parametrize("size", [(390, 844), (844, 390), (820, 1180), (1280, 720)])
def test_nothing_covers_the_cells_of_a_small_screen(editor, visit, size):
    page = visit(
        editor, "079.png", viewport=dict(zip(("width", "height"), size, strict=True)), has_touch=True
    )
    box = page.locator("#canvas").bounding_box()
    page.keyboard.press("p")  # its hint is shown
    page.locator("#fill").wait_for()
    if size[0] >= 1280:
        assert page.locator("#canvas").bounding_box() == box  # choosing a tool makes nothing jump
    page.locator("#canvas").scroll_into_view_if_needed()
    assert page.locator("#canvas").bounding_box()["height"] > 220
    on_top = "(points) => points.map(([x, y]) => document.elementFromPoint(x, y)?.id)"
    points = [cell(page, row, column) for row in range(GRID) for column in range(GRID)]
    assert set(page.evaluate(on_top, points)) == {"canvas"}
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(*points[7])
    shows(page, "#readout", "row 2, column 2")
    assert page.locator("#canvas").bounding_box() == box  # what is read makes nothing jump


def test_zooming_and_moving_change_no_number(editor, visit):
    page = visit(editor, "010.png")
    page.keyboard.press("3")
    x, y = cell(page, 1, 4)
    page.mouse.move(x, y)
    for _ in range(4):
        page.mouse.wheel(0, -200)  # the point under the pointer stays
    page.mouse.click(x, y)
    is_saved(page, 1)
    page.keyboard.down("Space")
    page.mouse.down()
    page.mouse.move(x - 80, y + 50)
    page.mouse.up()
    page.keyboard.up("Space")
    page.mouse.click(x - 80, y + 50)  # the same cell, so nothing new
    shows(page, "#edited-count", "^edited cells: 1$")
    page.keyboard.press("Home")
    page.keyboard.press("-")
    page.locator("#zoom-fit").click()
    paint(page, (4, 1))
    is_saved(page, 2)
    edit = stored(editor, "010.png")
    assert marked(edit) == [(1, 4), (4, 1)] and len(history(editor, "010.png")) == 2
    assert np.unique(edit.value[edit.edited]) == np.float32(0.3)


def test_touch_paints_with_one_finger_and_zooms_with_two(editor, visit):
    page = visit(editor, "011.png", has_touch=True)
    page.touchscreen.tap(*cell(page, 2, 3))
    is_saved(page, 1)
    touch = page.context.new_cdp_session(page)

    def fingers(kind, *points):
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    a, b = cell(page, 2, 2), cell(page, 2, 4)
    fingers("touchStart", a)
    fingers("touchStart", a, b)  # the stroke that the first finger began is given up
    fingers("touchMove", (a[0] - 60, a[1]), (b[0] + 60, b[1]))
    fingers("touchEnd")
    shows(page, "#edited-count", "^edited cells: 1$")
    page.touchscreen.tap(*cell(page, 2, 3))  # between the fingers: stays where it was
    page.touchscreen.tap(cell(page, 2, 3)[0] + 60, a[1])  # without zoom: column 4
    page.wait_for_timeout(200)
    assert marked(stored(editor, "011.png")) == [(2, 3)]


def test_tools(editor, visit):
    page = visit(editor, "012.png")
    page.keyboard.press("6")
    page.keyboard.press("p")
    for corner in [(-0.4, -0.4), (-0.4, 2.4), (2.4, 2.4), (2.4, -0.4)]:
        page.mouse.click(*cell(page, *corner))
    page.keyboard.press("f")
    is_saved(page, 9)  # the cells whose middle is inside
    edit = stored(editor, "012.png")
    assert edit.value[edit.edited] == pytest.approx(0.6)
    page.keyboard.press("r")
    paint(page, (1, 1), (2, 2))
    page.keyboard.press("l")
    paint(page, (2, 0))
    page.keyboard.press("e")
    paint(page, (0, 1))
    is_saved(page, 8)
    edit = stored(editor, "012.png")
    assert edit.value[[1, 2, 2], [1, 2, 0]] == pytest.approx([0.8, 0.8, 0.4]) and not edit.edited[0, 1]
    page.locator("[data-tool=outside]").click()
    page.locator("#target").fill("1")
    for corner in [(-0.4, -0.4), (-0.4, 4.4), (4.4, 4.4), (4.4, -0.4)]:
        page.mouse.click(*cell(page, *corner))
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    shows(page, "#edited-count", "^edited cells: 8$")  # given up
    for corner in [(-0.4, -0.4), (-0.4, 4.4), (4.4, 4.4)]:
        page.mouse.click(*cell(page, *corner))
    page.mouse.dblclick(*cell(page, 4.4, -0.4))
    is_saved(page, 8 + 11)
    page.locator("#reset").click()
    shows(page, "#edited-count", "^edited cells: 0$")
    shows(page, "#image-status", "to do")
    assert stored(editor, "012.png") is None
    page.keyboard.press("Control+z")
    shows(page, "#image-status", "^done$")
    page.keyboard.press("b")
    page.keyboard.press("]")
    assert page.locator("#size-shown").text_content() == "1.5"
    page.keyboard.press("[")
    assert page.locator("[data-tool=set]").get_attribute("aria-pressed") == "true"


def test_view_mode_reads_other_maps(editor, visit):
    page = visit(editor, "013.png")
    canvas = "document.querySelector('#canvas').toDataURL()"

    def settles(before):
        page.wait_for_timeout(300)
        after = page.evaluate(canvas)
        assert after != before
        return after

    page.mouse.move(*cell(page, 2, 5))
    shows(page, "#readout", r"^row 3, column 6: 0\.\d\d$")
    page.keyboard.press("v")
    page.mouse.click(*cell(page, 2, 2))
    shows(page, "#query", "row 3, column 3")
    seen = settles(page.evaluate(canvas) + "-")
    page.locator("#query").click()
    shows(page, "#query", "class token")
    seen = settles(seen)
    page.select_option("#layer", "0")
    seen = settles(seen)
    page.select_option("#head", "1")
    seen = settles(seen)
    page.select_option("#map", "rollout")
    seen = settles(seen)
    page.keyboard.down("h")
    hidden = settles(seen)
    page.keyboard.up("h")
    assert settles(hidden) == seen
    assert history(editor, "013.png") == []


def test_the_scope_is_saved_and_the_prediction_follows_it(editor, visit):
    page = visit(editor, "014.png")
    paint(page, SQUARE)
    shows(page, "#badge", "^now right$")
    is_saved(page, 1)
    everything = page.locator("#bars .true .number").text_content()
    page.locator("#scope-queries").select_option("cls")
    page.locator("#scope-layers").select_option("last")
    page.locator("#scope-heads").select_option("0")
    shows(page, "#why-layers", "Only this layer")
    page.locator("#bars .true .number", has_not_text=everything).wait_for()
    shows(page, "#saved", "^saved")
    edit = stored(editor, "014.png")
    assert (edit.layers, edit.heads, edit.queries) == ("last", [0], "cls")
    part = page.locator("#bars .true .number").text_content()
    assert part != everything
    page.reload()
    shows(page, "#bars .true .number", re.escape(part))
    assert page.locator("#scope-layers").input_value() == "last"


def test_predicted_edits_are_accepted_rejected_or_corrected(editor, visit):
    page = visit(editor, "090.png")
    shows(page, "#review-text", r"predicted by the network \(confidence 0\.93\)")
    shows(page, "#badge", "^now right$")
    page.locator("#accept").click()
    page.locator("#review").wait_for(state="hidden")
    shows(page, "#saved", "^saved")
    edit = stored(editor, "090.png")
    assert edit.author == "first author" and marked(edit) == [SQUARE]

    page.keyboard.press("Control+z")
    shows(page, "#image-status", "^predicted$")
    page.keyboard.press("a")

    open_image(page, "091.png")
    page.keyboard.press("x")
    shows(page, "#image-status", "to do")
    shows(page, "#badge", "^wrong$")
    assert stored(editor, "091.png") is None
    page.keyboard.press("Control+z")
    shows(page, "#image-status", "^predicted$")

    open_image(page, "092.png")
    paint(page, (0, 1))
    is_saved(page, 2)
    page.locator("#review").wait_for(state="hidden")
    assert stored(editor, "092.png").author == "first author"
    page.locator("#history summary").click()
    shows(page, "#revisions li >> nth=1", "propagated")
    page.locator("#revisions button").nth(1).click()
    shows(page, "#image-status", "^predicted$")


def test_names_are_shown_as_text(editor, visit):
    page = visit(editor)
    page.fill("#author", HOSTILE)
    page.fill("#search", HOSTILE_FILE)
    page.locator("#items button", has_text=HOSTILE_FILE).first.click()
    shows(page, "#image-name", re.escape(HOSTILE_FILE))
    paint(page, SQUARE)
    is_saved(page, 1)
    page.fill("#note", HOSTILE)
    page.locator("#note").blur()
    page.locator("#history summary").click()
    shows(page, "#revisions", re.escape(HOSTILE) + ".*" + re.escape(HOSTILE))
    assert HOSTILE in page.locator("#bars").text_content()
    assert HOSTILE in page.locator("#class-filter").text_content()
    assert BIRD in page.locator("#true-class").text_content()
    assert page.locator("img:not(#items img), b, svg").count() == 0
    assert stored(editor, HOSTILE_FILE).author == HOSTILE


def test_the_progress_counts_what_is_not_in_the_list(editor, visit):
    page = visit(editor, "018.png")
    done = int(re.match(r"\d+", page.locator("#progress-text").text_content())[0])
    page.fill("#search", "bird/019")
    page.locator("#items li:only-child").wait_for()
    paint(page, SQUARE)
    shows(page, "#progress-text", f"^{done + 1} of 200 done")
    page.keyboard.press("Control+z")
    shows(page, "#progress-text", f"^{done} of 200 done")


def test_a_wrong_token_is_not_handed_to_other_tabs(editor, visit):
    page = visit(editor, "020.png")
    page.evaluate("window.isSame = true")
    other = page.context.new_page()
    other.goto(editor.link + "x")
    shows(other, "#gate", "Open the address with the token")
    paint(page, SQUARE)
    is_saved(page, 1)
    other.goto(editor.link)
    other.locator("#items button").first.wait_for()
    assert page.evaluate("window.isSame")


def test_a_draft_finds_its_image_in_a_changed_data_set(run, visit, tmp_path):
    data, edits = tmp_path / "data", tmp_path / "edits.sqlite"
    shutil.copytree(run.folder.parent / "data", data)
    editor = Editor(run.folder, edits, "test", "--dataset_path", str(data)).start()
    try:
        page = visit(editor)
        page.route("**/*base=*", lambda route: route.abort())
        for name, squares in (("030.png", [(0, 0)]), ("031.png", [(1, 1), (1, 2)])):
            open_image(page, name)
            paint(page, *squares)
            shows(page, "#saved", "^NOT SAVED")
        open_image(page, "030.png")
        editor.kill()
        (data / "test" / BIRD / "030.png").rename(tmp_path / "030.png")
        editor.start()
        page.unroute("**/*base=*")
        page.goto(editor.link)  # where 030.png was, there is 031.png now
        shows(page, "#image-name", "031.png")
        shows(page, "#edited-count", "^edited cells: 2$")
        is_stored(editor, "031.png", [(1, 1), (1, 2)])
        assert len(history(editor, "031.png")) == 1 and history(editor, "030.png") == []
        page.reload()
        shows(page, "#saved", "^NOT SAVED: the data set has no image test/.*030.png now")
        shows(page, "#edited-count", "^edited cells: 2$")
        paint(page, (1, 3))  # it holds nothing up
        is_stored(editor, "031.png", [(1, 1), (1, 2), (1, 3)])
        shows(page, "#saved", "^NOT SAVED: .*030.png")  # and is not forgotten
        editor.kill()
        (tmp_path / "030.png").rename(data / "test" / BIRD / "030.png")
        editor.start()
        page.goto(editor.link)
        shows(page, "#saved", "^saved")
        assert marked(stored(editor, "030.png")) == [(0, 0)]
    finally:
        editor.kill()


def test_predictions_go_one_at_a_time_and_the_newest_wins(editor, visit):
    page = visit(editor, "021.png")
    page.evaluate(
        """() => {
          const real = window.fetch;
          window.asked = window.running = window.most = 0;
          window.fetch = async (...request) => {
            if (!String(request[0]).includes("/predict")) return real(...request);
            window.asked += 1;
            window.most = Math.max(window.most, ++window.running);
            await new Promise((resolve) => setTimeout(resolve, 1500));
            window.running -= 1;
            return real(...request);
          };
        }"""
    )
    for column in range(5):
        paint(page, (5, column))
    paint(page, SQUARE)
    shows(page, "#stale", "computing")
    shows(page, "#badge", "^wrong$")  # the old answer stays while the new one is computed
    shows(page, "#badge", "^now right$")
    page.locator("#stale:empty").wait_for(state="attached")
    assert page.evaluate("window.most") == 1 and page.evaluate("window.asked") < 6
    is_saved(page, 6)
    page.evaluate("window.asked = 0")
    paint(page, (4, 4))
    is_saved(page, 7)
    page.locator("#stale:empty").wait_for(state="attached")
    assert page.evaluate("window.asked") == 1  # by the stroke, and not by its end once more


def test_behind_a_path_prefix(editor, visit):
    page = visit(editor)
    prefix = f"http://127.0.0.1:{editor.port}/user/me/proxy"
    page.route(
        f"{prefix}/**", lambda route: route.continue_(url=route.request.url.replace("/user/me/proxy", ""))
    )
    page.goto(editor.link.replace(f"{editor.port}/", f"{editor.port}/user/me/proxy/"))
    open_image(page, "022.png")
    paint(page, SQUARE)
    is_saved(page, 1)
    assert page.url == f"{prefix}/"


def test_a_queue_of_200_images(editor, visit):
    page = visit(editor, viewport={"width": 1280, "height": 500})
    page.select_option("#order", "name")
    shows(page, "#queue-state", "^200 images$")
    page.locator("#items button").first.hover()
    assert page.locator("#items li").count() == 100
    for _ in range(60):
        page.mouse.wheel(0, 2000)
        if page.locator("#items li").count() == 200:
            break
        page.wait_for_timeout(50)
    page.locator("#items li").last.scroll_into_view_if_needed()
    page.locator("#items li:last-child img[src^=blob]").wait_for()
    assert page.locator("#items img[src^=blob]").count() < 150  # fetched as they come into sight
    page.locator("#items button").first.click()
    page.locator("#items button[aria-current=true] .name", has_text="/000.png").wait_for()
    page.keyboard.press("Control+Enter")
    shows(page, "#image-name", "/001.png")
    page.select_option("#class-filter", "1")
    shows(page, "#queue-state", "^100 images$")
    page.fill("#search", "01")
    shows(page, "#queue-state", r"^1\d images$")
    page.fill("#search", "/001.png")
    page.select_option("#class-filter", "0")
    shows(page, "#queue-state", "^1 image$")
    page.fill("#search", "nothing of that name")
    shows(page, "#queue-state", "No image matches")


def test_no_image_is_missed_while_others_are_done(run, visit, tmp_path):
    editor = Editor(run.folder, tmp_path / "edits.sqlite", "test").start()
    page = visit(editor)
    page.select_option("#order", "name")
    page.select_option("#status-filter", "todo")
    shows(page, "#queue-state", "^200 images$")
    page.locator("#items button").first.click()
    names = []
    for _ in range(3):
        names.append(page.locator("#items button[aria-current=true]").get_attribute("title"))
        shows(page, "#image-name", re.escape(names[-1]))
        paint(page, (1, 1))
        page.keyboard.press("Control+Enter")
        page.locator(f"#image-name:not(:text-is('{names[-1]}'))").wait_for()
    shows(page, "#queue-state", "^197 images$")
    page.locator("#items li").last.scroll_into_view_if_needed()
    page.locator("#items li:nth-child(200)").wait_for(state="attached")
    assert len(set(page.locator("#items button").evaluate_all("all => all.map((it) => it.title)"))) == 200
    editor.kill()


def test_without_errors_the_classes_come_in_turn(run, visit, tmp_path):
    editor = Editor(run.folder, tmp_path / "edits.sqlite", "val").start()
    page = visit(editor)
    shows(page, "#queue-state", "^40 images$")
    assert page.locator("#order").input_value() == "mixed"
    shows(page, "#image-name", "^val/")
    editor.kill()


def test_japanese(editor, visit):
    page = visit(editor, "015.png", locale="ja-JP")
    shows(page, "h1", "注意エディタ")
    assert page.locator("html").get_attribute("lang") == "ja" and page.title() == "注意エディタ"
    paint(page, SQUARE)
    shows(page, "#saved", r"^\d\d:\d\d:\d\d に保存、リビジョン \d+$")
    shows(page, "#badge", "^正解に変わった$")
    page.keyboard.press("?")
    shows(page, "#keys", "次の未処理の画像")
    page.keyboard.press("Escape")
    english = "to do|class token|network|all layers|image|saved|Undo|wrong"
    body = page.locator("main").text_content().replace("bird", "").replace(HOSTILE, "")
    assert not re.search(english, body)
    page.select_option("#language", "en")
    shows(page, "#badge", "^now right$")
    page.reload()
    shows(page, "h1", "Attention editor")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_in_both_themes(editor, visit, theme):
    page = visit(editor, "016.png", color_scheme=theme)
    paint(page, SQUARE)
    shows(page, "#badge", "^now right$")
    colours = page.evaluate(
        """() => ["#image-name", "#queue-state", "#badge", "#next", "#items .answer", "#saved", ".true .name"]
          .map((selector) => {
            const it = document.querySelector(selector);
            let back = it;
            while (getComputedStyle(back).backgroundColor === "rgba(0, 0, 0, 0)") back = back.parentElement;
            return [getComputedStyle(it).color, getComputedStyle(back).backgroundColor]
              .map((colour) => colour.match(/\\d+/g).slice(0, 3).map(Number));
          })"""
    )
    for pair in colours:
        channels = np.array(pair) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        low, high = np.sort(linear @ [0.2126, 0.7152, 0.0722])
        assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG AA
    page_is_dark = np.mean(colours[0][1]) < 128
    assert page_is_dark == (theme == "dark")


def test_what_comes_next(editor, visit):
    page = visit(editor, "017.png", permissions=["clipboard-read", "clipboard-write"])
    paint(page, SQUARE)
    is_saved(page, 1)
    page.locator("#next-steps summary").click()
    with page.expect_download() as download:
        page.locator("#export").click()
    assert download.value.suggested_filename == "edits_export.zip"
    assert "index.jsonl" in zipfile.ZipFile(download.value.path()).namelist()
    page.locator("#copy").click()
    shows(page, "#copy", "Copied")
    command = page.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(r"FIRST_STEP=\S+/run EDITS=\S+/edits\.sqlite PROPAGATE=true bash \S+\.sh", command)


def test_without_the_token_nothing_is_shown(editor, browser):
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{editor.port}/")
        shows(page, "#gate", "Open the address with the token")
        assert page.locator("main").is_hidden()
        page.goto(f"http://127.0.0.1:{editor.port}/#token=wrong")
        shows(page, "#gate", "Open the address with the token")
        page.goto(editor.link)
        page.locator("#items button").first.wait_for()


@pytest.fixture(scope="module")
def digits(browser, tmp_path_factory):
    """The demo's Step 1, and a test image whose square is looked at, and without it the decision is right."""
    run = train(tmp_path_factory.mktemp("digits"), "--epochs", "20")
    part, model = DigitsDecoy().test("test"), run.load_model()
    images, every = part.images / 127.5 - 1, range(len(part))
    corner = part.images[:, 0, ::23, ::23].flatten(1).argmax(1)  # one of four, row by row
    row, column = corner // 2 * (GRID - 1), corner % 2 * (GRID - 1)
    edited = torch.zeros(len(part), GRID, GRID, dtype=torch.bool)
    edited[every, row, column] = True
    with torch.no_grad():
        before, logits = model.forward_with_attention(images)
        after = model(images, edit=AttentionEdit(edited * 0.0, edited))
    gained = (after.softmax(1) - before.softmax(1))[every, part.labels]
    seen = logits[2][:, :, 0, 1:].sigmoid().mean(1).unflatten(1, (GRID, GRID))[every, row, column]
    best = int((gained * seen).argmax())
    return run, best, (int(row[best]), int(column[best]))


@pytest.mark.skipif(os.environ.get("RECORD") != "1", reason="RECORD=1 makes docs/editor.gif anew")
def test_record_the_moving_picture(digits, visit, tmp_path):
    """docs/editor.gif: a wrong answer, one stroke over the square, the right answer."""
    run, image, square = digits
    editor = Editor(run.folder, tmp_path / "edits.sqlite", "test").start()
    try:
        page = visit(editor, viewport={"width": 1280, "height": 720}, color_scheme="light", locale="en-US")
        page.fill("#search", f"test/{image}")
        page.locator(f"#items button[title='test/{image}']").click()
        shows(page, "#image-name", f"test/{image}$")
        page.fill("#search", "")
        page.locator("#search").blur()
        page.wait_for_timeout(1000)
        frames, times = [], []

        def record(seconds):
            frames.append(Image.open(BytesIO(page.screenshot())).convert("RGB"))
            times.append(round(1000 * seconds))

        page.keyboard.down("h")
        page.wait_for_timeout(200)
        record(1.5)
        page.keyboard.up("h")
        page.wait_for_timeout(200)
        record(2.0)
        (x, y), (to_x, to_y) = cell(page, 2, 2), cell(page, *square)
        for t in np.linspace(0, 1, 6):
            page.mouse.move(x + t * (to_x - x), y + t * (to_y - y))
            record(0.15)
        record(0.8)
        page.mouse.down()
        record(0.2)
        page.mouse.up()
        shows(page, "#badge", "^now right$")
        is_saved(page, 1)
        shows(page, "#progress-text", "^1 of 500")
        record(3.5)
    finally:
        editor.kill()
    width, height = frames[0].size
    both = Image.new("RGB", (width, 2 * height))  # the colours of all frames lie in the first and the last
    both.paste(frames[0], (0, 0))
    both.paste(frames[-1], (0, height))
    palette = both.quantize(256, dither=Image.Dither.NONE)
    first, *rest = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = ROOT / "docs/editor.gif"
    first.save(file, save_all=True, append_images=rest, duration=times, loop=0, optimize=True)
    assert file.stat().st_size < 1_500_000

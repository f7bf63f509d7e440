"""The page: strokes, polygons, undo, and the same by mouse, keyboard and touch."""

import re

import numpy as np
import pytest
from helpers.browser import (
    GRID,
    SQUARE,
    cell,
    double_click,
    fingers,
    history,
    is_saved,
    marked,
    paint,
    shows,
    stored,
)
from helpers.editing import wait_for


@pytest.mark.firefox
def test_paint_until_the_decision_changes_undo_and_reload(editor, visit, browser):
    name = {"chromium": "001.png", "firefox": "070.png"}[browser.browser_type.name]
    page = visit(editor, name)
    assert page.url == f"http://127.0.0.1:{editor.port}/"  # the token is gone from the address
    shows(page, "#badge", "^wrong$")
    page.keyboard.press("0")
    paint(page, SQUARE)
    shows(page, "#badge", "^now right$")
    is_saved(page, 1)
    edit = stored(editor, name)
    assert marked(edit) == [SQUARE]
    assert edit.value[SQUARE] == 0
    assert edit.author == "first author"
    assert (edit.layers, edit.heads, edit.queries) == ("all", None, "all")

    paint(page, (2, 2), (3, 2))
    is_saved(page, 3)
    page.keyboard.press("Control+z")
    is_saved(page, 1)
    page.keyboard.press("Control+z")
    shows(page, "#badge", "^wrong$")
    is_saved(page, 0)
    assert stored(editor, name) is None
    assert len(history(editor, name)) == 4
    page.reload()
    shows(page, "#image-name", name)
    page.keyboard.press("Control+Shift+z")
    shows(page, "#badge", "^now right$")
    is_saved(page, 1)
    page.reload()
    shows(page, "#badge", "^now right$")
    shows(page, "#edited-count", "^edited cells: 1$")
    page.keyboard.press("Control+y")
    is_saved(page, 3)
    assert marked(stored(editor, name)) == [SQUARE, (2, 2), (3, 2)]
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
    shows(page, "#announce", "row 0, column 0: ")
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    shows(page, "#badge", "^now right$")
    shows(page, "#announce", r"row 0, column 0: 0\.00, edited \(erasing it takes [\d.]+ nats\)")
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
    wait_for(lambda: stored(editor, "002.png").note == "0 is erased")
    assert marked(stored(editor, "002.png")) == [SQUARE]


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


def test_an_open_polygon_is_not_lost(editor, visit):
    page = visit(editor, "084.png")
    page.fill("#search", "bird/08")
    shows(page, "#queue-state", "^10 images$")
    paint(page, (5, 5))
    is_saved(page, 1)
    page.keyboard.press("p")
    for corner in [(-0.4, -0.4), (-0.4, 2.4), (2.4, 2.4), (2.4, -0.4), (4.4, 4.4)]:
        page.mouse.click(*cell(page, *corner))
    page.keyboard.press("Control+z")  # the last corner
    shows(page, "#edited-count", "^edited cells: 1$")
    page.locator("#next").click()
    shows(page, "#stage-message", "^The polygon is not filled yet")
    page.locator("#items button[title$='bird/085.png']").click()
    shows(page, "#image-name", "084.png")
    page.keyboard.press("f")
    page.locator("#stage-message").wait_for(state="hidden")
    is_saved(page, 10)
    assert [len(marked(edit)) for edit in history(editor, "084.png")] == [1, 10]
    page.keyboard.press("Control+z")
    is_saved(page, 1)
    page.mouse.click(*cell(page, 1, 1))
    page.locator("#next").click()
    shows(page, "#stage-message", "^The polygon is not filled yet")
    page.keyboard.press("Escape")
    page.locator("#stage-message").wait_for(state="hidden")
    page.locator("#next").click()
    shows(page, "#image-name", "/085.png")


def test_the_cell_cursor_stays_in_sight(editor, visit):
    page = visit(editor, "078.png")
    page.locator("#canvas").focus()
    for _ in range(8):
        page.keyboard.press("+")
    for _ in range(GRID):
        page.keyboard.press("ArrowRight")
    page.locator("#announce", has_text=f"column {GRID - 1}").wait_for(state="attached")
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 28, box["y"] + box["height"] / 2)
    shows(page, "#readout", f"column {GRID - 1}:")


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
    assert marked(edit) == [(1, 4), (4, 1)]
    assert len(history(editor, "010.png")) == 2
    assert np.unique(edit.value[edit.edited]) == np.float32(0.3)


def test_touch_paints_with_one_finger_and_zooms_with_two(editor, visit):
    page = visit(editor, "011.png", has_touch=True)
    touch = fingers(page)
    page.touchscreen.tap(*cell(page, 2, 3))
    is_saved(page, 1)
    a, b = cell(page, 2, 2), cell(page, 2, 4)
    touch("touchStart", a)
    touch("touchStart", a, b)  # the stroke that the first finger began is given up
    touch("touchMove", (a[0] - 60, a[1]), (b[0] + 60, b[1]))
    touch("touchEnd")
    shows(page, "#edited-count", "^edited cells: 1$")
    page.touchscreen.tap(*cell(page, 2, 3))  # between the fingers: stays where it was
    page.touchscreen.tap(*cell(page, 2, 3.7))  # where column 4 was without zoom
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
    assert edit.value[[1, 2, 2], [1, 2, 0]] == pytest.approx([0.8, 0.8, 0.4])
    assert not edit.edited[0, 1]
    page.locator("[data-tool=outside]").click()
    page.locator("#target").fill("1")
    for corner in [(-0.4, -0.4), (-0.4, 4.4), (4.4, 4.4), (4.4, -0.4)]:
        page.mouse.click(*cell(page, *corner))
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    shows(page, "#edited-count", "^edited cells: 8$")  # given up
    for corner in [(-0.4, -0.4), (-0.4, 4.4), (4.4, 4.4)]:
        page.mouse.click(*cell(page, *corner))
    double_click(page, *cell(page, 4.4, -0.4))
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


def test_view_mode_shows_other_maps(editor, visit):
    page = visit(editor, "013.png")
    canvas = "document.querySelector('#canvas').toDataURL()"

    def settles(before):
        page.wait_for_timeout(300)
        after = page.evaluate(canvas)
        assert after != before
        return after

    shows(page, "#map-shown", "^decision map")
    page.mouse.move(*cell(page, *SQUARE))
    shows(page, "#readout", r"^row 0, column 0: erasing it takes [\d.]+ nats$")
    shows(page, "#scale-high", r"^[\d.]+ nats$")
    seen, high = page.evaluate(canvas), page.locator("#scale-high").text_content()
    page.select_option("#against", "true")
    page.locator("#scale-high", has_not_text=high).wait_for()
    page.select_option("#map", "sigmoid")
    settles(seen)
    page.mouse.move(*cell(page, 2, 5))
    shows(page, "#readout", r"^row 2, column 5: 0\.\d\d$")
    shows(page, "#scale-high", r"^[01]\.\d\d$")
    page.keyboard.press("v")
    page.mouse.click(*cell(page, 2, 2))
    shows(page, "#query", "row 2, column 2")
    seen = settles(page.evaluate(canvas) + "-")
    page.locator("#query").click()
    shows(page, "#query", "class token")
    seen = settles(seen)
    assert page.locator("#layer option").all_inner_texts() == ["0 (first)", "1 (last)"]
    page.select_option("#layer", "0")
    seen = settles(seen)
    page.select_option("#head", "1")
    seen = settles(seen)
    page.select_option("#map", "rollout")
    seen = settles(seen)
    assert not page.locator("#layer, #head").filter(visible=True).count()  # it goes through all of them
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
    shows(page, "#why-layers", "this layer only")
    page.locator("#bars .true .number", has_not_text=everything).wait_for()
    shows(page, "#saved", "^saved")
    edit = stored(editor, "014.png")
    assert (edit.layers, edit.heads, edit.queries) == ("last", [0], "cls")
    part = page.locator("#bars .true .number").text_content()
    assert part != everything
    page.reload()
    shows(page, "#bars .true .number", re.escape(part))
    assert page.locator("#scope-layers").input_value() == "last"


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
    shows(page, "#badge", "^wrong$")  # the old response stays while the new one is computed
    shows(page, "#badge", "^now right$")
    page.locator("#stale:empty").wait_for(state="attached")
    assert page.evaluate("window.most") == 1
    assert page.evaluate("window.asked") < 6
    is_saved(page, 6)
    page.evaluate("window.asked = 0")
    paint(page, (4, 4))
    is_saved(page, 7)
    page.locator("#stale:empty").wait_for(state="attached")
    assert page.evaluate("window.asked") == 1  # by the stroke, and not by its end once more

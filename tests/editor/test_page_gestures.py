"""The page: what saves a person gestures: rectangle, region, repeat, previous, one edit for many images."""

import pytest
from helpers.browser import SQUARE, cell, history, is_saved, is_stored, marked, shows, stored
from helpers.editing import wait_for


def drag(page, start, end):
    page.mouse.move(*cell(page, *start))
    page.mouse.down()
    page.mouse.move(*cell(page, *end), steps=4)
    page.mouse.up()


def test_a_rectangle_is_one_drag_and_one_step_of_undo(editor, visit):
    page = visit(editor, "030.png")
    page.keyboard.press("m")
    page.keyboard.press("i")
    drag(page, (3, 4), (1, 2))  # against the reading direction
    is_saved(page, 9)
    page.keyboard.press("0")
    assert page.locator("[data-tool=rectangle]").get_attribute("aria-pressed") == "true"
    drag(page, (4.4, 5), (6, 6))  # what lies beyond the picture is left out
    is_saved(page, 11)
    edit = stored(editor, "030.png")
    assert marked(edit) == [*((row, column) for row in (1, 2, 3) for column in (2, 3, 4)), (4, 5), (5, 5)]
    assert edit.value[2, 2] == 1 and edit.value[5, 5] == 0
    page.keyboard.press("Control+z")
    is_saved(page, 9)
    page.mouse.move(*cell(page, 0, 0))
    page.mouse.down()
    page.mouse.move(*cell(page, 5, 5))
    shows(page, "#edited-count", "^edited cells: 36$")
    page.keyboard.press("Escape")
    page.mouse.up()
    shows(page, "#edited-count", "^edited cells: 9$")
    assert [len(marked(each)) for each in history(editor, "030.png")] == [9, 11, 9]


def test_an_edit_that_leaves_nothing_says_so(editor, visit):
    page = visit(editor, "034.png")
    page.keyboard.press("0")
    page.keyboard.press("m")
    drag(page, (0, 0), (5, 5))
    is_saved(page, 36)
    shows(page, "#answer", r"\. Every cell is 0: nothing of the image is left to decide by\.$")
    page.select_option("#scope-layers", "0")
    shows(page, "#answer", r"\)$")  # the other layers have it all
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    is_saved(page, 0)


def test_a_rectangle_by_keyboard(editor, visit):
    page = visit(editor, "031.png")
    page.locator("#canvas").focus()
    page.keyboard.press("m")
    for key in ("ArrowUp", "Enter", "ArrowRight", "ArrowDown"):  # the first one shows the cursor
        page.keyboard.press(key)
    shows(page, "#edited-count", "^edited cells: 4$")
    page.keyboard.press("7")  # what is open takes the value
    page.keyboard.press("Enter")
    is_saved(page, 4)
    edit = stored(editor, "031.png")
    assert marked(edit) == [(3, 3), (3, 4), (4, 3), (4, 4)]
    assert edit.value[3, 3] == pytest.approx(0.7)
    assert len(history(editor, "031.png")) == 1
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Control+z")  # of what is open
    page.keyboard.press("Control+z")
    is_saved(page, 0)


def test_one_gesture_and_one_key_an_image(editor, visit):
    """The commonest job, and back to what was just done."""
    page = visit(editor, "032.png")
    page.fill("#search", "bird/03")
    shows(page, "#queue-state", "^10 images$")
    page.locator("#canvas").focus()
    page.keyboard.press("m")
    for name in ("032.png", "033.png"):
        shows(page, "#image-name", name)
        drag(page, SQUARE, (0, 1))
        page.keyboard.press(".")
    shows(page, "#image-name", "034.png")
    for name in ("032.png", "033.png"):
        is_stored(editor, name, [SQUARE, (0, 1)])
    for name in ("033.png", "032.png"):
        page.keyboard.press(",")
        shows(page, "#image-name", name)
    page.reload()
    shows(page, "#image-name", "032.png")
    page.fill("#search", "bird/03")
    shows(page, "#queue-state", "^10 images$")
    page.locator("#previous").click()  # which one was open before is not known any more: the one above
    shows(page, "#image-name", "031.png")


def test_repeat_lays_the_last_edit_over_another_image(editor, visit):
    page = visit(editor, "035.png")
    page.keyboard.press("y")
    shows(page, "#stage-message", "nothing to repeat")
    page.fill("#search", "bird/03")
    page.keyboard.press("Escape")
    page.locator("#canvas").focus()
    page.keyboard.press("i")
    page.mouse.click(*cell(page, 2, 2))
    is_saved(page, 1)
    page.keyboard.press(".")
    shows(page, "#image-name", "036.png")
    page.keyboard.press("4")
    page.mouse.click(*cell(page, 5, 1))
    is_saved(page, 1)
    page.reload()
    shows(page, "#edited-count", "^edited cells: 1$")
    page.keyboard.press("y")
    is_saved(page, 2)
    edit = stored(editor, "036.png")
    assert marked(edit) == [(2, 2), (5, 1)]
    assert edit.value[[2, 5], [2, 1]] == pytest.approx([1, 0.4])
    page.keyboard.press("Control+z")
    is_saved(page, 1)


def test_another_tool_does_not_drop_the_corners_of_a_polygon(editor, visit):
    page = visit(editor, "037.png")
    page.keyboard.press("p")
    for corner in [(-0.4, -0.4), (-0.4, 2.4), (2.4, 2.4)]:
        page.mouse.click(*cell(page, *corner))
    page.keyboard.press("b")
    shows(page, "#stage-message", "^The polygon is not filled yet")
    assert page.locator("[data-tool=inside]").get_attribute("aria-pressed") == "true"
    page.keyboard.press("o")  # the same corners, from the other side
    page.keyboard.press("p")
    page.mouse.click(*cell(page, 2.4, -0.4))
    page.keyboard.press("f")
    is_saved(page, 9)
    page.keyboard.press("b")
    assert page.locator("[data-tool=set]").get_attribute("aria-pressed") == "true"


def test_a_click_marks_a_region_that_the_wheel_grows(editor, visit):
    page = visit(editor, "038.png")
    page.keyboard.press("w")
    page.mouse.click(*cell(page, *SQUARE))  # of one brightness, unlike all around it
    shows(page, "#edited-count", "^edited cells: 1$")
    shows(page, "#region-shown", "^cells: 1, not saved yet$")
    shows(page, "#badge", "^now right$")  # as the stroke goes
    assert history(editor, "038.png") == []
    page.mouse.wheel(0, -100)
    shows(page, "#edited-count", "^edited cells: 2$")
    page.keyboard.press("]")
    shows(page, "#edited-count", "^edited cells: 3$")
    page.mouse.wheel(0, 100)
    page.keyboard.press("[")
    shows(page, "#edited-count", "^edited cells: 1$")
    page.locator("#region-size").fill("5")
    shows(page, "#edited-count", "^edited cells: 5$")
    page.keyboard.press("Escape")
    shows(page, "#edited-count", "^edited cells: 0$")
    page.mouse.click(*cell(page, *SQUARE))
    shows(page, "#edited-count", "^edited cells: 1$")
    page.keyboard.press("i")  # what is open takes the value
    page.keyboard.press("Enter")
    is_saved(page, 1)
    assert stored(editor, "038.png").value[SQUARE] == 1
    page.mouse.click(*cell(page, 3, 2))  # the lighter rectangle of rows 3 and 4, columns 2 to 4
    shows(page, "#region-shown", "not saved yet$")
    page.fill("#search", "bird/03")
    shows(page, "#queue-state", "^10 images$")
    page.locator("#next").click()  # keeps it, as every other step does
    page.locator("#image-name", has_not_text="038.png").wait_for()
    wait_for(lambda: len(history(editor, "038.png")) == 2)
    lighter = {(row, column) for row in (2, 3) for column in (1, 2, 3)}
    assert {SQUARE, *lighter} <= set(marked(stored(editor, "038.png")))


def test_closing_the_page_with_an_open_region_asks(editor, visit):
    page = visit(editor, "039.png")
    page.keyboard.press("w")
    page.mouse.click(*cell(page, *SQUARE))
    page.locator("#region-keep").wait_for()
    asks = "() => !dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    assert page.evaluate(asks)
    page.locator("#region-keep").click()
    is_saved(page, 1)
    assert not page.evaluate(asks)
    page.keyboard.press("Control+z")
    is_saved(page, 0)


def test_one_edit_for_many_images_with_a_look_at_each(editor, visit):
    page = visit(editor, "050.png")
    page.fill("#search", "bird/05")
    shows(page, "#queue-state", "^10 images$")
    page.locator("#apply-open").click()
    shows(page, "#stage-message", "no saved edit")
    page.locator("#items button[title$='bird/051.png']").click()
    shows(page, "#image-name", "051.png")
    page.mouse.click(*cell(page, 4, 4))
    is_saved(page, 1)
    page.locator("#items button[title$='bird/050.png']").click()
    shows(page, "#image-name", "050.png")
    page.mouse.click(*cell(page, *SQUARE))
    is_saved(page, 1)
    page.locator("#apply-open").click()
    shows(page, "#apply-save", "^Save on 8 images$")  # of 9 others, one has an edit
    label = page.locator("#apply-items label")
    assert label.count() == 9
    assert not label.filter(has_text="051.png").locator("input").is_checked()
    shows(page, "#apply-items .pill", "^done · first author$")
    label.filter(has_text="052.png").locator("input").uncheck()
    label.filter(has_text="051.png").locator("input").check()
    shows(page, "#apply-save", "^Save on 8 images$")
    page.locator("#apply-save").click()
    shows(page, "#apply-result", "^Saved on 8 images.$")
    assert stored(editor, "052.png") is None
    for name in ("051.png", "053.png", "059.png"):
        assert marked(stored(editor, name)) == [SQUARE]
        assert stored(editor, name).note.startswith("the edit of test/")
    page.locator("#apply-close").click()
    page.locator("#items button[title$='bird/051.png']").click()
    shows(page, "#image-name", "051.png")
    shows(page, "#edited-count", "^edited cells: 1$")
    page.keyboard.press("Control+z")  # one step of this image
    is_saved(page, 1)
    assert marked(stored(editor, "051.png")) == [(4, 4)]


def test_one_edit_for_many_images_is_taken_back_at_once(editor, visit):
    page = visit(editor, "060.png")
    page.mouse.click(*cell(page, *SQUARE))
    is_saved(page, 1)
    page.fill("#search", "bird/06")
    shows(page, "#queue-state", "^10 images$")
    page.locator("#apply-open").click()
    page.locator("#apply-save").click()
    shows(page, "#apply-result", "^Saved on 9 images.$")
    page.locator("#apply-undo").click()
    shows(page, "#apply-result", "^All of them are taken back.$")
    for name in ("061.png", "069.png"):
        assert stored(editor, name) is None
        assert len(history(editor, name)) == 2
    assert marked(stored(editor, "060.png")) == [SQUARE]

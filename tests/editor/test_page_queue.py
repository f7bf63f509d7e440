"""The page: the list of images, and the way through it."""

import re

from helpers.browser import (
    SQUARE,
    Editor,
    paint,
    shows,
    stored,
)


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
    assert edit.note == "skipped: the label is wrong"
    assert not edit.edited.any()
    page.select_option("#status-filter", "skipped")
    page.locator("#items button[title$='bird/004.png']").click()
    shows(page, "#image-status", "skipped")


def test_the_progress_counts_what_is_not_in_the_list(editor, visit):
    page = visit(editor, "018.png")
    done = int(re.match(r"\d+", page.locator("#progress-text").text_content())[0])
    page.fill("#search", "bird/019")
    page.locator("#items li:only-child").wait_for()
    paint(page, SQUARE)
    shows(page, "#progress-text", f"^{done + 1} of 200 done")
    page.keyboard.press("Control+z")
    shows(page, "#progress-text", f"^{done} of 200 done")


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


def test_no_image_is_missed_while_others_are_done(square_run, visit, tmp_path):
    editor = Editor(square_run.folder, tmp_path / "edits.sqlite", "test").start()
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


def test_without_errors_the_classes_come_in_turn(square_run, visit, tmp_path):
    editor = Editor(square_run.folder, tmp_path / "edits.sqlite", "val").start()
    page = visit(editor)
    shows(page, "#queue-state", "^40 images$")
    assert page.locator("#order").input_value() == "mixed"
    shows(page, "#image-name", "^val/")
    editor.kill()

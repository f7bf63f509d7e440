"""The page: which map is shown, and by what colours."""

import shutil

import pytest
from helpers.browser import BIRD, HOSTILE, SQUARE, Editor, cell, paint, shows
from helpers.editing import make_step_2_run


def canvas_colour(page, row, column):
    """[r, g, b, a] of the canvas in the middle of a cell, without what marks the pointer."""
    x, y = cell(page, row, column)
    page.mouse.move(5, 5)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    read = """([x, y]) => {
        const it = document.querySelector("#canvas");
        const { left, top } = it.getBoundingClientRect();
        return [...it.getContext("2d").getImageData(x - left - 1, y - top - 1, 1, 1).data];
    }"""
    return page.evaluate(read, [x, y])


def test_any_class_can_be_asked_and_held_against_another(editor, visit):
    page = visit(editor, "023.png")
    for name, words in (("explained", 2), ("against", 3)):
        options = page.locator(f"#{name} option").all_text_contents()
        assert options[words:] == [HOSTILE, BIRD]
    shows(page, "#map-shown", f"^decision map: why {HOSTILE[:4]}")  # the predicted one
    page.mouse.move(*cell(page, *SQUARE))
    shows(page, "#readout", r"erasing it takes \d\.\d\d nats$")
    box = page.locator("#canvas").bounding_box()
    page.select_option("#explained", label=BIRD)
    shows(page, "#map-shown", f"^decision map: why {BIRD}$")
    page.mouse.move(*cell(page, *SQUARE))
    shows(page, "#readout", r"erasing it takes -\d\.\d\d nats$")
    page.select_option("#against", label=HOSTILE)
    shows(page, "#map-shown", f"^decision map: why {BIRD}, not {HOSTILE[:4]}")
    page.select_option("#against", "true")
    shows(page, "#map-shown", f"^decision map: {BIRD} twice, so there is no difference to show$")
    shows(page, "#scale-high", r"^0\.01 nats$")
    assert page.locator("#canvas").bounding_box() == box


def test_the_legend_is_of_the_map_on_the_screen(editor, visit):
    page = visit(editor, "024.png")
    page.route("**/decision?explained=1&*", lambda route: None)  # no response yet
    page.select_option("#explained", label=BIRD)
    page.locator("#map-shown[aria-busy=true]").wait_for()
    shows(page, "#map-shown", f"why {HOSTILE[:4]}")
    page.select_option("#explained", "predicted")
    page.locator("#map-shown[aria-busy=false]").wait_for()


def test_one_key_makes_the_colours_of_images_comparable(editor, visit):
    page = visit(editor, "025.png")
    high = page.locator("#scale-high").text_content()
    own = float(high.split()[0])
    assert own > 0.75  # the square decides
    faint = canvas_colour(page, *SQUARE)
    box = page.locator("#canvas").bounding_box()
    page.keyboard.press("c")
    shows(page, "#scale-high", r"^≥ 0\.69 nats: halved$")
    shows(page, "#scale-low", r"^≤ -0\.69$")
    assert page.locator("#fixed").is_checked()
    assert page.locator("#canvas").bounding_box() == box
    assert canvas_colour(page, *SQUARE) == faint  # full colour in both
    page.select_option("#map", "sigmoid")
    shows(page, "#scale-low", r"^0\.00$")
    shows(page, "#scale-high", r"^1\.00$")
    fixed = [canvas_colour(page, row, 0) for row in range(6)]
    page.keyboard.press("c")
    page.locator("#scale-low", has_not_text="0.00").wait_for()
    assert [canvas_colour(page, row, 0) for row in range(6)] != fixed
    page.keyboard.press("c")
    page.reload()
    shows(page, "#scale-high", "≥")
    assert page.locator("#fixed").is_checked()


def test_what_the_edit_changed_is_a_sentence(editor, visit):
    page = visit(editor, "027.png")
    wrong, right = rf"{HOSTILE[:4]}.* \(\d\d\.\d %\)", rf"{BIRD} \(\d\d\.\d %\)"
    shows(page, "#answer", f"^Without an edit: {wrong}$")
    paint(page, SQUARE)
    shows(page, "#answer", f"^With the edit: {right}, without: {wrong}$")
    page.keyboard.press("Control+z")
    shows(page, "#answer", f"^Without an edit: {wrong}$")


def test_a_run_is_shown_beside_the_one_before_step_2(square_run, visit, tmp_path):
    run = make_step_2_run(tmp_path, square_run)
    editor = Editor(run.folder, tmp_path / "edits.sqlite", "test").start()
    page = visit(editor, "028.png")
    page.locator("#first-step summary").click()
    wrong, right = rf"{HOSTILE[:4]}.* \(\d\d\.\d %\)", rf"{BIRD} \(\d\d\.\d %\)"
    shows(page, "#first-answer", rf"^This run: {right}, before Step 2 \(first\): {wrong}; both without")
    assert page.locator("#first-bars li").count() == 2
    page.mouse.move(*cell(page, *SQUARE))
    shows(page, "#readout", r"takes \d\.\d\d nats")
    page.select_option("#map", "first_step")
    shows(page, "#map-shown", f"^decision map before Step 2: why {BIRD}$")
    shows(page, "#readout", r"takes -\d\.\d\d nats")
    shutil.rmtree(tmp_path / "first")
    page.fill("#search", "bird/029.png")
    page.locator("#items button[title$='029.png']").click()
    shows(page, "#image-name", "029.png")  # its network is in memory still
    shows(page, "#first-answer", "^This run")
    editor.kill()
    editor.start()
    page.goto(editor.link)
    page.locator("#first-step summary").click()
    shows(page, "#first-answer", "^the run before Step 2, first, is not there any more$")
    editor.kill()


def test_a_step_1_run_has_nothing_before_it(editor, visit):
    page = visit(editor, "030.png")
    assert page.locator("#first-step").is_hidden()
    assert page.locator("#map option[value=first_step]").count() == 0


@pytest.mark.parametrize("language", ["en-US", "ja-JP"])
def test_what_is_read_moves_nothing(editor, visit, language):
    page = visit(editor, "026.png", locale=language)
    box = page.locator("#canvas").bounding_box()
    for row in range(6):
        page.mouse.move(*cell(page, row, 5))
        page.locator("#readout:not(:empty)").wait_for()
        assert page.locator("#canvas").bounding_box() == box

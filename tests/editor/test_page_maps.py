"""The page: which map is shown, and by what colours."""

import base64
import io
import re

import numpy as np
import pytest
from helpers.browser import BIRD, HOSTILE, SQUARE, Editor, cell, is_saved, open_image, paint, shows
from helpers.editing import SMALL, make_run, make_step_2_run
from PIL import Image


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
    shows(page, "#readout", r"erasing it takes [\d.]+ nats$")
    box = page.locator("#canvas").bounding_box()
    page.select_option("#explained", label=BIRD)
    shows(page, "#map-shown", f"^decision map: why {BIRD}$")
    page.mouse.move(*cell(page, *SQUARE))
    shows(page, "#readout", r"erasing it takes -[\d.]+ nats$")
    page.select_option("#against", label=HOSTILE)
    shows(page, "#map-shown", f"^decision map: why {BIRD}, not {HOSTILE[:4]}")
    page.select_option("#against", "true")
    shows(page, "#map-shown", f"^decision map: {BIRD} twice, so there is no difference to show$")
    shows(page, "#scale-high", r"^0\.01 nats; no cell reaches it$")
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


def on_the_canvas(page):
    """The canvas as it is drawn, float [h, w, 3]."""
    page.mouse.move(5, 5)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    address = page.evaluate("document.querySelector('#canvas').toDataURL()")
    picture = Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))
    return np.asarray(picture.convert("RGB")).astype(float)


@pytest.fixture(scope="module")
def second(square_run, tmp_path_factory):
    """The editor of a Step 2 run, with a mask of one image."""
    folder = tmp_path_factory.mktemp("second")
    (folder / "masks" / BIRD).mkdir(parents=True)
    mask = np.zeros((24, 24), np.uint8)
    mask[8:16, 4:16] = 255  # its borders are those of cells 1 to 3 and 2 to 3
    Image.fromarray(mask).save(folder / "masks" / BIRD / "001.png")
    run = make_step_2_run(folder, square_run)
    editor = Editor(run.folder, folder / "edits.sqlite", "test", "--masks", str(folder / "masks")).start()
    yield editor
    editor.kill()


def test_cell_lines_and_masks_at_one_key(second, visit):
    page = visit(second, "001.png")
    page.locator("#hide").check()
    bare = on_the_canvas(page)
    x, y = cell(page, 2.5, 2)  # on the border of two cells
    box = page.locator("#canvas").bounding_box()
    place = round(y - box["y"]) - 1, round(x - box["x"]) - 1
    assert page.locator("#mask-choice").is_visible()
    page.keyboard.press("g")
    lined = on_the_canvas(page)
    assert np.abs(lined - bare).max(2)[place[0] - 2 : place[0] + 3, place[1]].max() > 20
    page.keyboard.press("g")
    assert np.array_equal(on_the_canvas(page), bare)
    with page.expect_response("**/outline?*"):
        page.keyboard.press("k")
    page.wait_for_timeout(200)
    colour = [255, 110, 240]  # less of it where the line, of 1.5 pixels, lies between two
    rows, columns = np.nonzero(np.abs(on_the_canvas(page) - colour).max(2) < 80)
    (left, top), (right, bottom) = cell(page, 1.5, 0.5), cell(page, 3.5, 3.5)
    ends = [edge - box[axis] - 1 for edge, axis in ((left, "x"), (right, "x"), (top, "y"), (bottom, "y"))]
    assert [columns.min(), columns.max(), rows.min(), rows.max()] == pytest.approx(ends, abs=1.5)
    open_image(page, "002.png")
    shows(page, "#mask-choice", "^ *Mask \\(K\\): none$")


def test_brightness_and_contrast_are_for_the_eyes_alone(editor, visit):
    page = visit(editor, "031.png")
    assert page.locator("#mask-choice").is_hidden()  # the data set has none
    page.locator("#hide").check()
    bare = on_the_canvas(page)
    answer = page.locator("#answer").text_content()
    page.locator("#picture summary").click()
    shows(page, "#picture", "the network and the edits get the picture as it is")
    page.locator("#brightness").fill("2")
    brighter = on_the_canvas(page)
    inside = (slice(120, 330), slice(250, 480))  # of the canvas: picture alone
    assert np.abs(brighter - np.minimum(255, 2 * bare))[inside].max() <= 2
    page.locator("#contrast").fill("0.5")
    assert on_the_canvas(page)[inside].std() < 0.7 * brighter[inside].std()
    page.keyboard.press("0")
    paint(page, (5, 5))
    is_saved(page, 1)
    page.keyboard.press("Control+z")
    shows(page, "#answer", f"^{re.escape(answer)}$")
    is_saved(page, 0)
    page.reload()
    shows(page, "#picture summary", "changed")  # the tab keeps it
    assert page.locator("#brightness").input_value() == "2"
    page.locator("#picture summary").click()
    page.locator("#plain").click()
    page.locator("#adjusted").wait_for(state="hidden")
    page.locator("#hide").check()
    assert np.array_equal(on_the_canvas(page)[inside], bare[inside])


@pytest.mark.slow
def test_zooming_into_a_photograph_shows_its_own_pixels(visit, tmp_path):
    """Lines of one pixel, which the overview averages to grey, in half of the photograph."""
    width, height = 4000, 2400
    pixels = np.full((height, width), 128, np.uint8)
    pixels[:, width // 2 :: 2], pixels[:, width // 2 + 1 :: 2] = 255, 0
    for name in "ab":
        (tmp_path / "images/train" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(pixels).save(tmp_path / "images/train" / name / f"{i}.png", compress_level=1)
    folder = str(tmp_path / "images")
    run = make_run(tmp_path, "--dataset", "folder", "--dataset_path", folder, "--val_fraction", "0", *SMALL)
    editor = Editor(run.folder, tmp_path / "edits.sqlite", "train")
    page = visit(editor.start())
    shows(page, "#photo", "^4000 × 2400, 1 : 3.9$")
    page.locator("#hide").check()
    assert np.ptp(on_the_canvas(page)[200:240, 500:700]) < 40  # grey
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for _ in range(12):
        page.mouse.wheel(0, -200)
    shows(page, "#photo", "1 : 1$")
    page.wait_for_timeout(300)
    shown = on_the_canvas(page)[200:240, :, 0]
    middle = shown.shape[1] // 2
    assert np.ptp(shown[:, : middle - 30]) < 10  # the other half stays as it is
    assert set(np.unique(shown[:, middle + 30 :])) >= {0, 255}  # and the lines begin where they do
    page.keyboard.press("Home")
    shows(page, "#photo", "1 : 3.9$")
    page.keyboard.press("Control+Enter")
    page.locator("#image-name:not(:empty)").wait_for()
    editor.kill()


def test_what_the_edit_changed_is_a_sentence(editor, visit):
    page = visit(editor, "027.png")
    wrong, right = rf"{HOSTILE[:4]}.* \(\d\d\.\d %\)", rf"{BIRD} \(\d\d\.\d %\)"
    shows(page, "#answer", f"^Without an edit: {wrong}$")
    paint(page, SQUARE)
    shows(page, "#answer", f"^With the edit: {right}, without: {wrong}$")
    page.keyboard.press("Control+z")
    shows(page, "#answer", f"^Without an edit: {wrong}$")


def test_a_run_is_shown_beside_the_one_before_step_2(second, visit):
    page, first = visit(second, "028.png"), second.edits.with_name("first")
    away = first.rename(first.with_name("away"))
    page.locator("#first-step summary").click()
    shows(page, "#first-answer", "^the run before Step 2, first, is not there any more$")
    page.select_option("#map", "first_step")
    shows(page, "#stage-message", "first, is not there any more")
    away.rename(first)
    page.select_option("#map", "decision")
    open_image(page, "029.png")
    wrong, right = rf"{HOSTILE[:4]}.* \(\d\d\.\d %\)", rf"{BIRD} \(\d\d\.\d %\)"
    shows(page, "#first-answer", rf"^This run: {right}, before Step 2 \(first\): {wrong}; both without")
    assert page.locator("#first-bars li").count() == 2
    page.mouse.move(*cell(page, *SQUARE))
    shows(page, "#readout", r"takes [\d.]+ nats")
    page.select_option("#map", "first_step")
    shows(page, "#map-shown", f"^decision map before Step 2: why {BIRD}$")
    shows(page, "#readout", r"takes -[\d.]+ nats")


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

"""The moving picture of the documentation, made anew with RECORD=1."""

import os
from io import BytesIO

import numpy as np
import pytest
import torch
from helpers.browser import (
    GRID,
    ROOT,
    Editor,
    cell,
    is_saved,
    shows,
)
from helpers.runs import train
from PIL import Image

from sigmoid_vit import AttentionEdit
from sigmoid_vit.data.digits import DigitsDecoy
from sigmoid_vit.runs.network import Network


@pytest.fixture(scope="module")
def digits(browser, tmp_path_factory):
    """The demo's Step 1, and an image that is right without its square, which has much attention."""
    run = train(tmp_path_factory.mktemp("digits"), "--epochs", "20")
    part, model = DigitsDecoy().test("test"), Network.of_run(run).model
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
    """docs/editor.gif: a wrong response, one stroke over the square, the right response."""
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

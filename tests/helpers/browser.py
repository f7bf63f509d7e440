"""A real headless browser, the editor as a process of its own, and what a person does with both."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigmoid_vit.edits.store import EditStore, StoredEdit
from sigmoid_vit.files import sha256

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "src/sigmoid_vit/editor/page"
BROWSER = os.environ.get("BROWSER", "chromium")  # in which the tests of the page run: or firefox
PROGRAMS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "firefox": ("firefox-esr", "firefox"),
}

HOSTILE = "<img src=x onerror=alert(1)>"
BIRD = "鳥 & <b>bird"  # the true class of every image that a test edits; the network predicts the other one
HOSTILE_FILE = '000 "><svg onload=alert(2)>.png'
SQUARE = (0, 0)  # the cell that tells the class in train and lies in test
GRID = 6
TRAINING = (
    "--dataset folder --pretrained false --model_name vit_tiny_patch16_224 --img_size 24 --batch_size 32 "
    "--opt adamw --lr 2e-3 --hflip 0 --crop_scale 1 --epochs 6 "
    "--model_kwargs patch_size=4 embed_dim=32 depth=2 num_heads=2"
)


def find_browser(name: str = BROWSER) -> str:
    """The browser as the system has it (setup_env.sh installs Debian's), or the test is skipped."""
    path = next(filter(None, map(shutil.which, PROGRAMS[name])), None)
    return path or pytest.skip(f"skipped: no {name}")


@contextmanager
def open_browser(name: str = BROWSER) -> Iterator:
    """Chromium by its own protocol, or the system's Firefox by WebDriver BiDi."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="skipped: no browser")
    options = {"chromium": {"args": ["--no-sandbox"]}, "firefox": {"channel": "moz-firefox"}}[name]
    path = find_browser(name)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = getattr(playwright, name).launch(executable_path=path, **options)
        except sync_api.Error as error:
            if "unknown command" not in str(error):  # of WebDriver BiDi
                raise
            pytest.skip(f"skipped: {path} is too old for playwright")
        yield browser
        browser.close()


def needs_chromium(browser, why: str) -> None:
    """Skip the test in Firefox, for what that or WebDriver BiDi lacks."""
    if browser.browser_type.name != "chromium":
        pytest.skip(f"skipped: Firefox does not offer {why} to a test")


class Editor:
    """src/edit_attention.py on a port that stays the same when it is killed and started anew."""

    def __init__(self, run: Path, edits: Path, split: str, *args: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        script = str(ROOT / "src/edit_attention.py")
        self.command = [sys.executable, script, "--run", str(run), "--edits", str(edits), "--split", split]
        self.command += ["--port", str(self.port), "--no_browser", "--author", "first author", *args]
        self.edits, self.log = edits, edits.with_suffix(".log")

    def start(self) -> "Editor":
        """Start it and wait until it has printed its address, which is then in `link`."""
        with self.log.open("w") as log:
            env = os.environ | {"PYTHONUNBUFFERED": "1"}
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=env)
        for _ in range(1800):  # 3 minutes, as other work may slow the machine
            if found := re.search(r"Editor: (http://\S+#token=\S+)", self.log.read_text()):
                self.link = found[1]
                return self
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        self.kill()
        raise AssertionError(f"the editor did not start: {self.log.read_text()}")

    def kill(self) -> None:
        """End it as a power cut would."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


def make_square_images(root):
    """Two classes of noise, of which the first has a white square in the corner; in test both have it."""
    random = np.random.RandomState(0)
    for part, n in (("train", 300), ("val", 20), ("test", 100)):
        for name in (HOSTILE, BIRD):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = random.randint(0, 40, (24, 24, 3)).astype(np.uint8)
                pixels[8:16, 4:16] = 120 + random.randint(20)
                if name == HOSTILE or part == "test":
                    pixels[:4, :4] = 250
                Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    (root / "test" / BIRD / "000.png").rename(root / "test" / BIRD / HOSTILE_FILE)


def propagated_edit(data, name):
    """What propagation stores: the square's cell at 0."""
    image_id = f"test/{BIRD}/{name}"
    value, edited = np.zeros((GRID, GRID), np.float32), np.zeros((GRID, GRID), bool)
    edited[SQUARE] = True
    return StoredEdit(
        image_id, sha256(data / image_id), value, edited, "propagated", note="by a program", confidence=0.93
    )


def edit_of_another_run(data, name):
    """What a network of another grid and other weights leaves: half of the image at 0."""
    image_id = f"test/{BIRD}/{name}"
    value = np.zeros((GRID - 2, GRID - 2), np.float32)
    edited = np.arange(value.size).reshape(value.shape) < value.size // 2
    return StoredEdit(image_id, sha256(data / image_id), value, edited, "noor", weights_sha256="0" * 64)


def open_image(page, name):
    page.select_option("#order", "name")
    page.fill("#search", f"bird/{name}")
    page.locator(f"#items button[title$='bird/{name}']").click()
    page.locator("#image-name", has_text=name).wait_for()


def cell(page, row, column):
    """Where the middle of a cell of a square picture is in the window, while it is shown whole."""
    box = page.locator("#canvas").bounding_box()
    side = min(box["width"], box["height"]) - 2 - 16  # without border and margin
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    return x + side * ((column + 0.5) / GRID - 0.5), y + side * ((row + 0.5) / GRID - 0.5)


def paint(page, *cells):
    """One stroke through the middles of the cells."""
    page.mouse.move(*cell(page, *cells[0]))
    page.mouse.down()
    for each in cells[1:]:
        page.mouse.move(*cell(page, *each))
    page.mouse.up()


def double_click(page, x, y):
    """On the canvas. In Firefox, two clicks over WebDriver BiDi make none: there it is the event itself."""
    page.mouse.dblclick(x, y)
    if page.context.browser.browser_type.name == "firefox":
        page.locator("#canvas").dispatch_event("dblclick")


def fingers(page):
    """touch(kind, *points): the fingers are at these points of the window now."""
    needs_chromium(page.context.browser, "touch")
    session = page.context.new_cdp_session(page)

    def touch(kind, *points):
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    return touch


def shows(page, selector, text):
    """Wait until the element says it; text or a regular expression."""
    page.locator(selector, has_text=re.compile(text) if isinstance(text, str) else text).wait_for()


def is_saved(page, count):
    """Wait until an edit of so many cells is shown and said to be saved."""
    shows(page, "#edited-count", rf"^edited cells: {count}$")
    shows(page, "#saved", r"^saved \d\d:\d\d:\d\d, revision \d+$")


def is_stored(editor, name, cells, seconds=30):
    """Wait until the store has an edit of these cells, whatever the page says of other images."""
    end = time.monotonic() + seconds
    while (edit := stored(editor, name)) is None or marked(edit) != cells:
        assert time.monotonic() < end, edit
        time.sleep(0.05)


def save_elsewhere(editor, k, count, author="noor"):
    """Save an edit of the first cells of image k without a page."""
    address, token = editor.link.split("/#token=")
    cells = GRID * GRID
    body = np.zeros(cells, "<f4").tobytes() + b"\1" * count + b"\0" * (cells - count)
    params = urllib.parse.urlencode({"base": "none", "client_id": secrets.token_hex(8), "author": author})
    kind = "application/octet-stream"
    headers = {"Authorization": f"Bearer {token}", "Origin": address, "Content-Type": kind}
    request = urllib.request.Request(f"{address}/api/images/{k}/edit?{params}", body, headers)
    urllib.request.urlopen(request).close()


def stored(editor, name):
    """The current edit of an image as another program reads it from the store; None if there is none."""
    with EditStore(editor.edits, readonly=True) as store:
        return store.current(f"test/{BIRD}/{name}")


def history(editor, name):
    with EditStore(editor.edits, readonly=True) as store:
        return store.history(f"test/{BIRD}/{name}")


def marked(edit):
    return sorted(zip(*(axis.tolist() for axis in np.nonzero(edit.edited)), strict=True))

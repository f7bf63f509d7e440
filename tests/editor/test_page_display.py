"""The page: names, languages, colours, small screens, and who may open it."""

import re
import zipfile

import numpy as np
import pytest
from helpers.browser import (
    BIRD,
    GRID,
    HOSTILE,
    HOSTILE_FILE,
    SQUARE,
    cell,
    is_saved,
    needs_chromium,
    open_image,
    paint,
    shows,
    stored,
)


def test_every_control_is_reached_by_tab_and_has_a_name(editor, visit):
    page = visit(editor, "003.png")
    page.locator("#history, #next-steps").evaluate_all("all => all.forEach((each) => { each.open = true; })")
    controls = "button:enabled, input, select, summary, #canvas"
    everything = page.locator(controls).evaluate_all(
        """all => all.filter((each) => each.checkVisibility() && !each.closest("#items"))
                     .map((each) => each.id || each.dataset.tool || each.textContent)"""
    )
    reached = set()
    page.locator("#to-picture").focus()
    for _ in range(len(everything) + 20):
        reached.add(
            page.evaluate("""() => { const it = document.activeElement;
                                     return it.id || it.dataset.tool || it.textContent; }""")
        )
        page.keyboard.press("Tab")
    assert set(everything) <= reached
    assert len(everything) > 35
    unnamed = page.locator(controls).evaluate_all(
        """all => all.filter((each) => each.checkVisibility()
            && !(each.labels?.[0]?.textContent.trim() || each.ariaLabel || each.textContent.trim()
                 || each.ariaLabelledByElements?.length))
            .map((each) => each.outerHTML)"""
    )
    assert unnamed == []


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
    shows(page, "#readout", "row 1, column 1")
    assert page.locator("#canvas").bounding_box() == box  # what is read makes nothing jump


def test_names_are_shown_as_text(editor, visit):
    page = visit(editor)
    page.fill("#author", HOSTILE)
    page.fill("#search", HOSTILE_FILE)
    page.locator("#items button", has_text=HOSTILE_FILE).first.click()
    shows(page, "#image-name", re.escape(HOSTILE_FILE))
    paint(page, SQUARE)
    is_saved(page, 1)
    page.locator("#note").press_sequentially(HOSTILE)
    page.locator("#note").blur()
    page.locator("#history summary").click()
    shows(page, "#revisions", re.escape(HOSTILE) + ".*" + re.escape(HOSTILE))
    assert HOSTILE in page.locator("#bars").text_content()
    assert HOSTILE in page.locator("#class-filter").text_content()
    assert BIRD in page.locator("#true-class").text_content()
    assert (
        page.locator("img:not(#items img, #revisions img), b:not(#people b, #revisions b), svg").count() == 0
    )
    assert stored(editor, HOSTILE_FILE).author == HOSTILE


def test_japanese(editor, visit):
    page = visit(editor, "015.png", locale="ja-JP")
    shows(page, "h1", "注意エディタ")
    assert page.locator("html").get_attribute("lang") == "ja"
    assert page.title() == "注意エディタ"
    paint(page, SQUARE)
    shows(page, "#saved", r"^保存 \d\d:\d\d:\d\d（リビジョン \d+）$")
    shows(page, "#badge", "^正解に変わった$")
    page.keyboard.press("?")
    shows(page, "#keys", "次の未処理の画像")
    page.keyboard.press("Escape")
    page.locator("#history summary").click()
    shows(page, "#revisions", "復元")
    english = "to do|class token|network|all layers|image|saved|Undo|wrong"
    body = page.locator("#main").text_content().replace("bird", "").replace(HOSTILE, "")
    assert not re.search(english, body)
    page.select_option("#language", "en")
    shows(page, "#badge", "^now right$")
    shows(page, "#revisions", "Restore")
    page.reload()
    shows(page, "h1", "Attention editor")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_in_both_themes(editor, visit, theme):
    page = visit(editor, "016.png", color_scheme=theme)
    paint(page, SQUARE)
    shows(page, "#badge", "^now right$")
    colours = page.evaluate(
        """() => ["#image-name", "#queue-state", "#badge", "#next", "#items .classes", "#saved",
                  ".true .name"]
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


def test_without_the_token_nothing_is_shown(editor, browser):
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{editor.port}/")
        shows(page, "#gate", "Open the address with the token")
        assert page.locator("#main").is_hidden()
        page.goto(f"http://127.0.0.1:{editor.port}/#token=wrong")
        shows(page, "#gate", "Open the address with the token")
        page.goto(editor.link)
        page.locator("#items button").first.wait_for()


def test_behind_a_path_prefix(editor, visit):
    page = visit(editor)
    needs_chromium(page.context.browser, "requests with another address")
    prefix = f"http://127.0.0.1:{editor.port}/user/me/proxy"
    page.route(
        f"{prefix}/**", lambda route: route.continue_(url=route.request.url.replace("/user/me/proxy", ""))
    )
    page.goto(editor.link.replace(f"{editor.port}/", f"{editor.port}/user/me/proxy/"))
    open_image(page, "022.png")
    paint(page, SQUARE)
    is_saved(page, 1)
    assert page.url == f"{prefix}/"

"""The page: the list of images, and the way through it."""

import re

import pytest
from helpers.browser import (
    SQUARE,
    Editor,
    is_saved,
    paint,
    save_elsewhere,
    shows,
    stored,
)

IN_SIGHT = """(it) => {
  const [box, list] = [it, it.closest("ol")].map((each) => each.getBoundingClientRect());
  return box.top >= list.top - 1 && box.bottom <= list.bottom + 1;
}"""


def row(page, place):
    """The row of the list that is at a place, the first one being 1."""
    return page.locator(f"#items li:has([aria-posinset='{place}'])")


def scroll(page, share):
    page.locator("#items").evaluate("(it, share) => { it.scrollTop = share * it.scrollHeight; }", share)


def asked_for(page):
    """The addresses that the page asks for from now on."""
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    return asked


def fetched_ahead(page, name):
    """Wait until the page has an image that was not opened; its number, and all addresses from now on."""
    k = page.locator(f"#items button[title$='{name}']").get_attribute("value")
    asked = asked_for(page)
    page.select_option("#map", "sigmoid")  # all is fetched anew for this map
    with page.expect_response(re.compile(f"images/{k}/picture")):
        pass
    page.wait_for_timeout(300)  # the picture is decoded
    return k, asked


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
    row(page, 1).click()
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


def test_a_long_list_has_only_the_rows_in_sight(editor, visit):
    page = visit(editor, "040.png", viewport={"width": 1280, "height": 500})
    asked = asked_for(page)
    page.fill("#search", "")
    shows(page, "#queue-state", "^200 images$")
    pictures = "all => all.every((it) => !it.hasAttribute('src') || (it.complete && it.naturalWidth > 0))"
    for place in (1, 100, 200):
        scroll(page, (place - 1) / 200)
        row(page, place).locator(".classes", has_text="→").wait_for()
        row(page, place).locator("img[src^=blob]").wait_for()
        assert page.locator("#items img").evaluate_all(pictures)
        assert page.locator("#items li").count() < 40
    assert row(page, 200).locator("button").get_attribute("aria-setsize") == "200"
    assert row(page, 200).locator("button").get_attribute("title").endswith("/099.png")
    assert sum("/queue?" in url for url in asked) == 1
    assert sum("/items?" in url for url in asked) <= 2
    assert sum("/thumbnail" in url for url in asked) < 60


def test_a_long_class_name_does_not_hide_the_figure(editor, visit):
    page = visit(editor, "041.png")
    classes = page.locator("#items button[title$='bird/041.png'] .classes")
    assert re.fullmatch(r"\S.* → <img src=x onerror=alert\(1\)> \d+ %", classes.text_content())
    assert classes.locator(".sides").evaluate("it => it.scrollWidth > it.clientWidth")  # shortened
    box, figure = classes.bounding_box(), classes.locator(".number").bounding_box()
    assert figure["x"] + figure["width"] <= box["x"] + box["width"] + 1
    assert figure["width"] > 20


def test_a_row_changes_without_the_others(editor, visit):
    page = visit(editor, "041.png")
    page.fill("#search", "bird/04")
    shows(page, "#queue-state", "^10 images$")
    page.locator("#items li").evaluate_all("all => all.forEach((it) => { it.isSame = true; })")
    paint(page, SQUARE)
    page.locator("#items button[title$='041.png'] .mark.done").wait_for()
    assert page.locator("#items li").evaluate_all("all => all.every((it) => it.isSame)")


@pytest.mark.firefox
def test_the_list_by_keyboard(editor, visit):
    page = visit(editor, viewport={"width": 1280, "height": 500})
    with page.expect_response(re.compile(r"/queue\?order=name")):
        page.select_option("#order", "name")
    for place in (1, 2, 3):
        row(page, place).locator(f"[title$='/00{place - 1}.png']").wait_for()
    place = "Number(document.activeElement.ariaPosInSet)"
    row(page, 3).locator("button").focus()
    shown = page.locator("#items").evaluate("it => Math.floor(it.clientHeight / it.firstChild.offsetHeight)")
    for key, to in [
        ("End", 200),
        ("ArrowDown", 200),
        ("PageUp", 200 - shown),
        ("ArrowUp", 199 - shown),
        ("Home", 1),
        ("ArrowLeft", 1),
        ("PageDown", 1 + shown),
        ("ArrowRight", 2 + shown),
    ]:
        page.keyboard.press(key)
        assert page.evaluate(place) == to
        assert page.locator(":focus").evaluate(IN_SIGHT)
    assert page.locator("#items [tabindex='0']").count() == 1
    scroll(page, 1)
    row(page, 200).wait_for()
    assert page.evaluate(place) == 2 + shown  # out of sight, and still there
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#items')") is None
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(place) == 2 + shown
    page.keyboard.press("Enter")
    shows(page, "#image-name", f"/{1 + shown:03d}\\.png$")


def test_the_next_image_is_there_before_it_is_asked_for(editor, visit):
    page = visit(editor, "042.png")
    page.fill("#search", "bird/04")
    k, asked = fetched_ahead(page, "043.png")
    page.route(re.compile(f"images/{k}/(picture|attention|decision)"), lambda route: route.abort())
    asked.clear()
    page.keyboard.press("Control+Enter")
    shows(page, "#image-name", r"/043\.png$")
    page.locator("#canvas").wait_for()
    assert not any(f"images/{k}/picture" in url for url in asked)


@pytest.mark.parametrize("what", ["edit", "map"])
def test_what_was_fetched_ahead_is_dropped_when_it_is_another_now(editor, visit, what):
    first = visit(editor, "044.png")
    first.fill("#search", "bird/04")
    k, asked = fetched_ahead(first, "045.png")
    if what == "edit":
        save_elsewhere(editor, k, 2)
        first.locator("#items button[title$='045.png']").click()
        shows(first, "#edited-count", "^edited cells: 2$")
        first.locator("#reset").click()
        is_saved(first, 0)
    else:
        asked.clear()
        first.select_option("#map", "rollout")
        first.keyboard.press("Control+Enter")
        shows(first, "#map-shown", "^rollout$")
        assert any(f"images/{k}/attention?layer=1&head=mean&query=cls&view=rollout" in url for url in asked)
    shows(first, "#image-name", r"/045\.png$")


def test_an_exact_map_is_given_up_with_its_image(editor, visit):
    """Its many passes would stand in front of what the next image needs."""
    page = visit(editor, "047.png")
    page.add_init_script(
        """const real = window.fetch;
        window.ended = [];
        window.fetch = (address, options) => {
          options.signal.addEventListener("abort", () => window.ended.push(String(address)));
          return real(address, options);
        };"""
    )

    def estimates_first(route):
        response = route.fetch()
        route.fulfill(response=response, json=response.json() | {"decision_at_once": False})

    page.route("**/api/session?", estimates_first)
    page.route("**/decision?*exact=yes*", lambda route: None)  # no response
    with page.expect_request("**/decision?*exact=yes*"):
        page.reload()
    shows(page, "#image-name", r"/047\.png$")
    page.locator("#next").click()
    page.locator("#image-name:not(:has-text('047.png'))").wait_for()
    assert any("exact=yes" in address for address in page.evaluate("window.ended"))
    assert not page.locator("#stage-message").is_visible()


def test_no_old_picture_stands_under_a_new_name(editor, visit):
    page = visit(editor, "040.png")
    page.fill("#search", "bird/04")
    shows(page, "#queue-state", "^10 images$")
    page.route("**/picture?*", lambda route: None)  # no response
    page.locator("#items button[title$='046.png']").click()
    for selector in ("#canvas", "#bars", "#true-class", "#skip"):
        page.locator(selector).wait_for(state="hidden")
    assert page.locator("#image-name").text_content() == "…"
    assert page.locator("#stage").get_attribute("aria-busy") == "true"
    for name in ("/041.png", "/043.png", "/046.png"):  # each click counts, although nothing comes yet
        page.locator(f"#items button[title$='{name}']").click()
        assert page.locator("#items button[aria-current=true]").get_attribute("title").endswith(name)
        assert page.locator("#image-name").text_content() == "…"
    page.unroute("**/picture?*")
    shows(page, "#image-name", r"/046\.png$")
    page.locator("#canvas").focus()
    page.route("**/picture?*", lambda route: None)
    for _ in range(3):  # each counts, although nothing comes yet
        page.keyboard.press("Control+Enter")
    page.locator("#items button[aria-current=true][title$='/049.png']").wait_for()
    page.locator("#canvas").wait_for(state="hidden")
    page.unroute("**/picture?*")
    shows(page, "#image-name", r"/049\.png$")
    assert page.evaluate("document.activeElement.id") == "canvas"  # as before
    page.keyboard.press("Control+Shift+Enter")
    page.keyboard.press("Control+Enter")
    page.locator("#items button[title$='/041.png']").click()  # later than going on, whatever that waits for
    shows(page, "#image-name", r"/041\.png$")


@pytest.mark.slow
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
    names = set()
    for place in range(1, 201, 10):  # each image stands in one place still
        scroll(page, place / 200)
        row(page, min(place + 9, 200)).locator(".classes:not(:has-text('… →'))").wait_for()
        shown = page.locator("#items li").evaluate_all(
            "all => all.map((it) => [it.firstChild.ariaPosInSet, it.firstChild.title])"
        )
        names |= {tuple(each) for each in shown}
    assert len(names) == len({title for _, title in names}) == 200
    editor.kill()


@pytest.mark.slow
def test_without_errors_the_classes_come_in_turn(square_run, visit, tmp_path):
    editor = Editor(square_run.folder, tmp_path / "edits.sqlite", "val").start()
    page = visit(editor)
    shows(page, "#queue-state", "^40 images$")
    assert page.locator("#order").input_value() == "mixed"
    shows(page, "#image-name", "^val/")
    editor.kill()

"""The page for those who use no mouse or no eyes: axe-core finds nothing, and the picture is near."""

import json

import pytest
from helpers.browser import SQUARE, is_saved, open_image, paint, shows


@pytest.fixture
def violations():
    """violations(page): what axe-core finds in the page as it stands, as lines to read."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="skipped: no axe-core").Axe()

    def violations(page):
        if page.evaluate("!window.axe"):
            page.evaluate(axe.axe_script)
        found = page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
        return [f"{each['id']}: {json.dumps([node['html'] for node in each['nodes']])}" for each in found]

    return violations


def close(page):
    page.locator("dialog[open]").evaluate_all("all => all.forEach((each) => each.close())")


def choose_language(page, language):
    """Also while a dialog keeps the picker from a person."""
    choose = "(it, value) => { it.value = value; it.dispatchEvent(new Event('change')); }"
    page.locator("#language").evaluate(choose, language)


def states(page, conflict):
    """Bring the page into one state after the other: its name comes when it is there."""
    page.locator("#history, #next-steps").evaluate_all("all => all.forEach((each) => { each.open = true; })")
    page.locator("#revisions:not(:empty)").wait_for()
    yield "an image without history"
    paint(page, SQUARE)
    is_saved(page, 1)
    page.fill("#note", "a note")
    page.locator("#revisions button").first.wait_for()
    yield "an edited image with a history"
    page.keyboard.press("Escape")
    for view in ("sigmoid", "rollout"):
        page.select_option("#map", view)
        shows(page, "#map-shown", view)
        yield view
    page.locator("#canvas").focus()
    page.keyboard.press("p")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.locator("#next").click()
    page.locator("#stage-message").wait_for()
    yield "an open polygon"
    page.locator("#help-open").click()
    yield "help"
    close(page)
    page.locator("#skip").click()
    yield "skip"
    close(page)
    page.locator("#canvas").focus()
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    conflict()
    paint(page, (3, 3))
    page.locator("#conflict").wait_for()
    yield "conflict"
    page.locator("#take-theirs").click()
    open_image(page, "090.png")
    page.locator("#review").wait_for()
    yield "a propagated edit"
    page.fill("#search", "nothing of that name")
    shows(page, "#queue-state", "No image matches")
    yield "an empty list"


@pytest.mark.parametrize(
    ("width", "name", "language", "theme"), [(1280, "096.png", "ja", "dark"), (390, "097.png", "en", "light")]
)
def test_axe_finds_nothing_in_any_state(editor, visit, violations, width, name, language, theme):
    size = {"viewport": {"width": width, "height": 800}, "color_scheme": theme}
    page, other = visit(editor, name, **size), visit(editor, name)

    def conflict():
        other.reload()
        open_image(other, name)
        paint(other, (4, 4))
        is_saved(other, 2)

    found = {}
    for state in states(page, conflict):
        choose_language(page, language)
        if problems := violations(page):
            found[state] = problems
        choose_language(page, "en")
    assert found == {}


def test_axe_finds_nothing_without_a_token(editor, browser, violations):
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{editor.port}/")
        shows(page, "#gate", "Open the address with the token")
        assert violations(page) == []


def test_the_first_tab_leads_to_the_picture(editor, visit):
    page = visit(editor, "087.png")
    page.reload()
    page.locator("#canvas").wait_for()
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "To the picture"
    assert page.locator(":focus").bounding_box()["width"] > 50  # seen while it has the focus
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "canvas"

"""The page on small screens: the picture stays in sight, one finger paints, two scroll and zoom."""

import pytest
from helpers.browser import cell, fingers, is_saved, marked, shows, stored

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
TABLET = {"viewport": {"width": 820, "height": 1180}, "has_touch": True, "is_mobile": True}
IN_SIGHT = """() => {
  const [canvas, next] = ["canvas", "next"].map((id) => document.getElementById(id).getBoundingClientRect());
  const bar = canvas.right > next.left ? next.top : innerHeight; // below the picture, or beside it
  return canvas.top >= 0 && canvas.bottom <= bar && next.bottom <= innerHeight;
}"""
SCROLLED = "Math.round(scrollY + document.querySelector('#stage').scrollTop)"


def swipe(touch, *fingers_from, by):
    """Fingers that come down at these points and all go the same way, in steps."""
    touch("touchStart", *fingers_from)
    for share in (i / 16 for i in range(1, 17)):
        touch("touchMove", *((x + share * by[0], y + share * by[1]) for x, y in fingers_from))
    touch("touchEnd")


@pytest.mark.parametrize("screen", [PHONE, TABLET, PHONE | {"viewport": {"width": 844, "height": 390}}])
def test_the_picture_stays_in_sight(editor, visit, screen):
    page = visit(editor, "060.png", **screen)
    assert page.evaluate(IN_SIGHT)
    page.fill("#search", "bird/06")
    for name, act in (
        ("061.png", lambda: page.locator("#items button[title$='061.png']").tap()),
        ("062.png", lambda: page.locator("#next").tap()),
    ):
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        act()
        shows(page, "#image-name", f"/{name}$")
        page.wait_for_function(IN_SIGHT)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_one_finger_paints_and_two_scroll_the_page(editor, visit):
    page = visit(editor, "063.png", **PHONE)
    page.evaluate("scrollTo(0, 0)")
    touch = fingers(page)
    swipe(
        touch, cell(page, 1, 1), by=[a - b for a, b in zip(cell(page, 4, 1), cell(page, 1, 1), strict=True)]
    )
    is_saved(page, 4)
    assert page.evaluate(SCROLLED) == 0
    swipe(touch, cell(page, 4, 1), cell(page, 4, 4), by=(0, -150))
    assert page.evaluate(SCROLLED) == pytest.approx(150, abs=2)
    page.touchscreen.tap(*cell(page, 2, 4))  # the picture is whole still, and where it was
    is_saved(page, 5)
    before = page.evaluate(SCROLLED)
    swipe(touch, cell(page, 2, 1), cell(page, 2, 4), by=(0, 100))
    assert page.evaluate(SCROLLED) == pytest.approx(before - 100, abs=2)
    assert marked(stored(editor, "063.png")) == [(1, 1), (2, 1), (2, 4), (3, 1), (4, 1)]


def test_two_fingers_move_a_zoomed_picture_before_the_page(editor, visit):
    page = visit(editor, "064.png", **PHONE)
    page.evaluate("scrollTo(0, 0)")
    touch, [x, y] = fingers(page), cell(page, 2.5, 2.5)
    touch("touchStart", (x - 40, y), (x + 40, y))
    touch("touchMove", (x - 80, y), (x + 80, y))  # twice as large: 3 of 6 rows are out of sight
    touch("touchEnd")
    side = cell(page, 1, 0)[1] - cell(page, 0, 0)[1]
    swipe(touch, (x - 40, y), (x + 40, y), by=(0, side))
    assert page.evaluate(SCROLLED) == 0
    page.touchscreen.tap(x, y + side / 2)  # this was the picture's middle, half a shown cell further down
    is_saved(page, 1)
    swipe(touch, (x - 40, y + 100), (x + 40, y + 100), by=(0, -5 * side))
    assert page.evaluate(SCROLLED) > 0.9 * side  # the picture up to its edge, the rest by the page
    assert len(marked(stored(editor, "064.png"))) == 1

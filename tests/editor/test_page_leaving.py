"""A page is opened without its token on a command line, and is not left unsaved without a question."""

import pytest
from helpers.browser import SQUARE, is_saved, open_image, paint, shows

from sigmoid_vit.editor.browser import start_page


def test_the_start_page_leads_to_the_editor(editor, browser):
    with start_page(editor.link) as file, browser.new_context() as context:
        page = context.new_page()
        page.goto(file.as_uri())
        page.locator("#items button").first.wait_for()
        assert page.url == f"http://127.0.0.1:{editor.port}/"  # without the token


@pytest.mark.firefox
def test_closing_a_tab_with_unsaved_changes_asks(editor, browser):
    questions = []
    with browser.new_context() as context:
        page = context.new_page()
        page.on("dialog", lambda dialog: questions.append(dialog.type) or dialog.dismiss())
        page.goto(editor.link)
        open_image(page, {"chromium": "095.png", "firefox": "098.png"}[browser.browser_type.name])
        page.route("**/edit?*base=*", lambda route: route.abort())
        paint(page, SQUARE)
        shows(page, "#saved", "^NOT SAVED")
        with page.expect_event("dialog"):
            page.close(run_before_unload=True)
        assert questions == ["beforeunload"]
        page.unroute("**/edit?*base=*")
        is_saved(page, 1)
        with page.expect_event("close"):
            page.close(run_before_unload=True)
    assert questions == ["beforeunload"]

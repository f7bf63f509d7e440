"""The editors that the tests open: in this process, or as a process with a page in a real browser."""

from contextlib import suppress

import pytest
from helpers.browser import (
    BROWSER,
    TRAINING,
    Editor,
    edit_of_another_run,
    find_browser,
    make_square_images,
    needs_chromium,
    open_browser,
    open_image,
    propagated_edit,
)
from helpers.editing import make_run, open_page
from helpers.runs import train

from sigmoid_vit.edits.store import EditStore

CHROMIUM_ONLY = {"is_mobile", "color_scheme", "permissions"}  # of the options of a browser's context


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run on digits_decoy with random weights."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def page(run, tmp_path):
    """The page's side of an editor in this process, with a store of its own."""
    with open_page(run, tmp_path / "edits.sqlite", split="val") as page:
        yield page


@pytest.fixture(scope="module")
def session(run, tmp_path_factory):
    """The session of an editor that runs already, with an edit of image 0, for all tests of a module."""
    with open_page(run, tmp_path_factory.mktemp("session") / "edits.sqlite", split="val") as page:
        page.save(0)
        yield page.session


def pytest_generate_tests(metafunc):
    """Tests marked `firefox` run in both browsers, where BROWSER does not choose Firefox for all."""
    if BROWSER == "chromium" and metafunc.definition.get_closest_marker("firefox"):
        metafunc.parametrize("browser", ["chromium", "firefox"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def browser(request):
    with open_browser(getattr(request, "param", BROWSER)) as browser:
        yield browser


@pytest.fixture(scope="session")
def square_run(tmp_path_factory):
    """A run whose network goes by a square: wrong on one class, and right once the square is erased."""
    find_browser()
    folder = tmp_path_factory.mktemp("page")
    make_square_images(folder / "data")
    return train(folder, "--dataset_path", str(folder / "data"), *TRAINING.split())


@pytest.fixture(scope="session")
def editor(square_run):
    """One server for all tests in a browser, each of which edits images of its own."""
    folder = square_run.folder.parent
    with EditStore(folder / "edits.sqlite") as store:
        store.save_many([propagated_edit(folder / "data", f"{i:03d}.png") for i in (90, 91, 92, 93)])
        store.save(edit_of_another_run(folder / "data", "094.png"))
    editor = Editor(square_run.folder, folder / "edits.sqlite", "test").start()
    yield editor
    editor.kill()


@pytest.fixture
def visit(browser):
    """visit(editor, image): a page of its own with the image open; any error on the page fails the test."""
    problems, contexts = [], []
    playwright_error = pytest.importorskip("playwright.sync_api").Error

    def visit(editor, image=None, **options):
        for option in CHROMIUM_ONLY & options.keys():
            needs_chromium(browser, option)
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 720}} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)  # other work may slow the machine
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        page.on("console", lambda m: problems.append(m.text) if "Content Security" in m.text else None)
        page.goto(editor.link)
        page.locator("#items button").first.wait_for()
        if image:
            open_image(page, image)
        return page

    yield visit
    for context in contexts:
        for page in context.pages:  # closed by a program, it would not say that it leaves
            page.unroute_all()
            page.wait_for_timeout(50)  # for what it is telling just now
            with suppress(playwright_error), page.expect_response("**/leave?*", timeout=1000):
                page.evaluate("dispatchEvent(new Event('pagehide'))")
        context.close()
    assert not problems

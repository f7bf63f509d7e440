"""The page: what a person did is never lost, and nothing of others is overwritten."""

import shutil

import pytest
from helpers.browser import (
    BIRD,
    SQUARE,
    Editor,
    history,
    is_saved,
    is_stored,
    marked,
    open_image,
    paint,
    shows,
    stored,
)


@pytest.mark.slow
def test_a_killed_server_loses_nothing(square_run, visit):
    editor = Editor(square_run.folder, square_run.folder.parent / "killed.sqlite", "test").start()
    try:
        page = visit(editor, "005.png")
        page.keyboard.press("0")
        paint(page, SQUARE)
        is_saved(page, 1)
        editor.kill()
        paint(page, (1, 1))
        shows(page, "#saved", "^NOT SAVED")
        assert page.locator("#saved").evaluate("it => getComputedStyle(it).fontWeight") == "700"
        page.keyboard.press("5")
        paint(page, (2, 2), (2, 4))
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+Shift+z")
        shows(page, "#edited-count", "^edited cells: 5$")
        editor.start()  # with another token
        shows(page, "#saved", "open the address with the token")
        page.context.new_page().goto(editor.link)  # hands it to the other tabs, which start anew
        shows(page, "#image-name", "005.png")
        is_saved(page, 5)
        paint(page, (5, 5))
        is_saved(page, 6)
        page.keyboard.press("Control+z")
        is_saved(page, 5)
        edits = history(editor, "005.png")
        assert [len(marked(edit)) for edit in edits] == [1, 2, 5, 2, 5, 6, 5]
        assert [edit.base for edit in edits] == [None, 1, 2, 3, 4, 5, 6]
        assert edits[-1].value[2, 3] == 0.5
        assert edits[-1].note == ""
    finally:
        editor.kill()


def test_a_lost_response_is_one_revision(editor, visit):
    page = visit(editor, "006.png")
    page.evaluate(
        """() => {
          const real = window.fetch;
          window.revisions = [];
          window.fetch = async (...request) => {
            const response = await real(...request);
            if (!/\\/edit\\?.*base=/.test(request[0])) return response;
            window.revisions.push((await response.clone().json()).revision);
            if (window.revisions.length === 1) throw new TypeError("the response is lost");
            return response;
          };
        }"""
    )
    paint(page, SQUARE)
    shows(page, "#saved", "^NOT SAVED")
    is_saved(page, 1)
    first, second = page.evaluate("window.revisions")
    assert first == second
    assert len(history(editor, "006.png")) == 1


def test_a_closed_tab_leaves_its_draft_to_the_next(editor, visit):
    page = visit(editor, "007.png")
    page.locator("#scope-queries").select_option("cls")
    page.route("**/edit?*base=*", lambda route: route.abort())
    paint(page, (4, 4))
    shows(page, "#saved", "^NOT SAVED")
    context = page.context
    page.close()
    assert stored(editor, "007.png") is None
    page = context.new_page()
    page.goto(editor.link)
    shows(page, "#saved", "^saved")
    assert marked(stored(editor, "007.png")) == [(4, 4)]
    assert stored(editor, "007.png").queries == "cls"
    open_image(page, "007.png")
    assert page.locator("#scope-queries").input_value() == "cls"


@pytest.mark.parametrize(("name", "choice"), [("008.png", "#keep-mine"), ("009.png", "#take-theirs")])
def test_two_tabs_in_conflict(editor, visit, name, choice):
    first, second = visit(editor, name), visit(editor, name)
    second.fill("#author", "second author")
    second.locator("#author").blur()
    paint(first, (1, 1))
    is_saved(first, 1)
    paint(second, (3, 3), (3, 4))
    second.locator("#conflict").wait_for()
    shows(second, "#conflict-image", f"/{name}$")
    shows(
        second,
        "#theirs-caption",
        r"first author, .*, revision \d+\s+edited cells: 1\s+all layers\s+all heads",
    )
    shows(second, "#mine-caption", r"edited cells: 2\s+all layers")
    second.keyboard.press("Escape")  # nothing is decided in passing
    images = "['mine', 'theirs'].map((id) => document.querySelector(`#${id} canvas`).toDataURL())"
    second.wait_for_function(f"() => new Set({images}).size === 2")
    assert marked(stored(editor, name)) == [(1, 1)]
    second.locator(choice).click()
    if choice == "#keep-mine":
        is_saved(second, 2)
        assert [edit.author for edit in history(editor, name)] == ["first author", "second author"]
        assert marked(stored(editor, name)) == [(3, 3), (3, 4)]
    else:
        is_saved(second, 1)
        is_stored(editor, name, [(1, 1)])
        edits = [(edit.author, marked(edit)) for edit in history(editor, name)]
        assert edits[0] == ("first author", [(1, 1)])
        assert edits[1:] == [("second author", [(3, 3), (3, 4)]), ("second author", [(1, 1)])]
        second.keyboard.press("Control+z")  # back to mine
        is_saved(second, 2)
        second.keyboard.press("Control+Shift+z")
        is_saved(second, 1)
        paint(second, (5, 5))
        is_saved(second, 2)
        assert marked(stored(editor, name)) == [(1, 1), (5, 5)]


def test_a_conflict_of_an_image_that_is_not_open(editor, visit):
    first, second = visit(editor, "080.png"), visit(editor, "080.png")
    paint(first, (1, 1))
    is_saved(first, 1)
    second.route("**/edit?*base=*", lambda route: route.abort())
    paint(second, (3, 3))
    shows(second, "#saved", "^NOT SAVED")
    open_image(second, "081.png")
    second.unroute("**/edit?*base=*")
    second.locator("#take-theirs").click()
    shows(second, "#saved", r"^saved .* revision \d+$")
    is_stored(editor, "080.png", [(1, 1)])
    assert [marked(edit) for edit in history(editor, "080.png")] == [[(1, 1)], [(3, 3)], [(1, 1)]]


def test_two_people_accept_the_same_edit(editor, visit):
    first, second = visit(editor, "093.png"), visit(editor, "093.png")
    first.locator("#accept").click()
    first.locator("#review").wait_for(state="hidden")
    shows(first, "#saved", "^saved")
    second.fill("#author", "second author")
    second.locator("#accept").click()
    second.locator("#keep-mine").click()
    is_saved(second, 1)
    edits = history(editor, "093.png")
    assert [edit.author for edit in edits] == ["propagated", "first author", "second author"]


def test_a_store_that_is_moved_is_not_called_saved(editor, visit):
    page, away = visit(editor, "082.png"), editor.edits.with_name("away.sqlite")
    paint(page, (1, 1))
    is_saved(page, 1)
    editor.edits.rename(away)
    paint(page, (2, 2))
    shows(page, "#saved", "^NOT SAVED: the file of the store was moved.* kept in this browser and sent again")
    away.rename(editor.edits)
    is_saved(page, 2)
    assert marked(stored(editor, "082.png")) == [(1, 1), (2, 2)]


def test_an_image_opened_without_a_network_appears_when_it_is_back(editor, visit):
    page = visit(editor)
    page.select_option("#order", "name")
    page.fill("#search", "bird/08")
    shows(page, "#queue-state", "^10 images$")
    page.context.set_offline(True)
    page.locator("#items button[title$='bird/083.png']").click()
    shows(page, "#stage-message", "could not be loaded: the editor's server does not respond")
    page.context.set_offline(False)
    page.locator("#canvas").wait_for()  # hidden while there is no image
    page.locator("#stage-message").wait_for(state="hidden")
    paint(page, (1, 1))
    is_saved(page, 1)
    assert marked(stored(editor, "083.png")) == [(1, 1)]


def test_a_file_that_is_away_for_a_while_loses_nothing(square_run, editor, visit):
    page, file = visit(editor, "071.png"), square_run.folder.parent / f"data/test/{BIRD}/071.png"
    file.rename(file.with_suffix(".away"))
    paint(page, (2, 2))
    shows(page, "#saved", "^NOT SAVED: the file of .*/071.png cannot be read.* The change is kept")
    open_image(page, "072.png")
    paint(page, (1, 1))  # is saved meanwhile
    is_stored(editor, "072.png", [(1, 1)])
    shows(page, "#saved", "^NOT SAVED: .*/071.png")
    open_image(page, "071.png")
    shows(page, "#stage-message", "could not be loaded")
    assert not page.locator("#true-class").is_visible()
    assert not page.locator("#canvas").is_visible()
    assert page.locator("#skip").evaluate("it => it.inert")
    assert page.locator("#next").is_enabled()
    page.keyboard.press("1")  # does no harm
    file.with_suffix(".away").rename(file)
    shows(page, "#saved", "^saved")
    page.locator("#next").click()
    open_image(page, "071.png")
    shows(page, "#edited-count", "^edited cells: 1$")
    assert marked(stored(editor, "071.png")) == [(2, 2)]


def test_the_scope_of_an_image_is_not_that_of_the_next(editor, visit):
    first, second = visit(editor, "073.png"), visit(editor)
    paint(first, (1, 1))
    first.select_option("#scope-layers", "0")
    is_saved(first, 1)
    open_image(second, "073.png")
    assert second.locator("#scope-layers").input_value() == "0"
    for page, layers in ((second, "all"), (first, "0")):  # who chose a scope keeps it
        open_image(page, "074.png")
        assert page.locator("#scope-layers").input_value() == layers


def test_a_note_waits_for_its_edit(editor, visit):
    page = visit(editor, "075.png")
    paint(page, (1, 1))
    is_saved(page, 1)
    page.keyboard.press("Control+z")
    is_saved(page, 0)
    page.fill("#note", "scratch at the rim")
    shows(page, "#saved", "^The note is kept in this browser until it is saved with an edit or a skip.$")
    open_image(page, "076.png")
    shows(page, "#saved", "^saved")
    assert page.locator("#note").input_value() == ""
    page.reload()
    open_image(page, "075.png")
    assert page.locator("#note").input_value() == "scratch at the rim"
    shows(page, "#saved", "^The note is kept in this browser")
    paint(page, (1, 1))
    is_saved(page, 1)
    assert stored(editor, "075.png").note == "scratch at the rim"
    page.fill("#note", "")
    page.locator("#note").press_sequentially("scratch at the left rim")  # Firefox: only typing is a change
    shows(page, "#saved", "^The note is kept in this browser")
    page.keyboard.press("Tab")
    is_saved(page, 1)
    assert stored(editor, "075.png").note == "scratch at the left rim"
    open_image(page, "076.png")
    page.locator("#note").press_sequentially("out of focus")
    page.keyboard.press("Tab")
    page.locator("#skip").click()
    assert page.locator("#skip-reason").input_value() == "out of focus"
    page.locator("#skip-dialog .primary").click()
    open_image(page, "076.png")
    shows(page, "#image-status", "^skipped: out of focus$")
    assert page.locator("#note").input_value() == ""  # the reason is no note on an edit
    paint(page, (1, 1))
    is_saved(page, 1)
    assert stored(editor, "076.png").note == ""


def test_propagated_edits_are_accepted_rejected_or_corrected(editor, visit):
    page = visit(editor, "090.png")
    shows(page, "#review-text", r"was propagated \(confidence 0\.93\)")
    shows(page, "#badge", "^now right$")
    page.locator("#accept").click()
    page.locator("#review").wait_for(state="hidden")
    shows(page, "#saved", "^saved")
    edit = stored(editor, "090.png")
    assert edit.author == "first author"
    assert marked(edit) == [SQUARE]

    page.keyboard.press("Control+z")
    shows(page, "#image-status", "^propagated$")
    page.keyboard.press("a")

    open_image(page, "091.png")
    page.keyboard.press("x")
    shows(page, "#image-status", "to do")
    shows(page, "#badge", "^wrong$")
    assert stored(editor, "091.png") is None
    page.keyboard.press("Control+z")
    shows(page, "#image-status", "^propagated$")

    open_image(page, "092.png")
    assert page.locator("#note").input_value() == ""  # its note is no person's
    paint(page, (0, 1))
    is_saved(page, 2)
    page.locator("#review").wait_for(state="hidden")
    assert stored(editor, "092.png").author == "first author"
    assert stored(editor, "092.png").note == ""
    page.locator("#history summary").click()
    shows(page, "#revisions li >> nth=1", "propagated")
    page.locator("#revisions button").nth(1).click()
    shows(page, "#image-status", "^propagated$")


def test_edits_of_another_grid_or_other_weights_are_said(editor, visit):
    page = visit(editor, "094.png")
    resized, weights = page.locator("#resized"), page.locator("#other-weights")
    assert resized.inner_text().startswith("This edit was drawn on another grid and is resampled")
    assert weights.inner_text().startswith("This edit was drawn on the maps of other weights")
    page.select_option("#language", "ja")
    assert "別のグリッド" in resized.inner_text()
    assert "別の重み" in weights.inner_text()
    paint(page, (5, 5))
    resized.wait_for(state="hidden")  # it is drawn on this one now
    weights.wait_for(state="hidden")
    open_image(page, "095.png")
    assert not resized.is_visible()
    assert not weights.is_visible()


@pytest.mark.slow
def test_a_draft_finds_its_image_in_a_changed_data_set(square_run, visit, tmp_path):
    data, edits = tmp_path / "data", tmp_path / "edits.sqlite"
    shutil.copytree(square_run.folder.parent / "data", data)
    editor = Editor(square_run.folder, edits, "test", "--dataset_path", str(data)).start()
    try:
        page = visit(editor)
        page.route("**/*base=*", lambda route: route.abort())
        for name, squares in (("030.png", [(0, 0)]), ("031.png", [(1, 1), (1, 2)])):
            open_image(page, name)
            paint(page, *squares)
            shows(page, "#saved", "^NOT SAVED")
        open_image(page, "030.png")
        editor.kill()
        (data / "test" / BIRD / "030.png").rename(tmp_path / "030.png")
        editor.start()
        page.unroute("**/*base=*")
        page.goto(editor.link)  # where 030.png was, there is 031.png now
        shows(page, "#image-name", "031.png")
        shows(page, "#edited-count", "^edited cells: 2$")
        is_stored(editor, "031.png", [(1, 1), (1, 2)])
        assert len(history(editor, "031.png")) == 1
        assert history(editor, "030.png") == []
        page.goto(editor.link)  # as reload() would ask first
        shows(page, "#saved", "^NOT SAVED: the data set has no image test/.*030.png now")
        shows(page, "#edited-count", "^edited cells: 2$")
        paint(page, (1, 3))  # it holds nothing up
        is_stored(editor, "031.png", [(1, 1), (1, 2), (1, 3)])
        shows(page, "#saved", "^NOT SAVED: .*030.png")  # and is not forgotten
        editor.kill()
        (tmp_path / "030.png").rename(data / "test" / BIRD / "030.png")
        editor.start()
        page.goto(editor.link)
        shows(page, "#saved", "^saved")
        assert marked(stored(editor, "030.png")) == [(0, 0)]
    finally:
        editor.kill()

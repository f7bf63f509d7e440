"""The page: two people on one store, through one server or two."""

import pytest
from helpers.browser import (
    SQUARE,
    Editor,
    history,
    is_saved,
    open_image,
    paint,
    propagated_edit,
    shows,
    stored,
)

from sigmoid_vit.edits.store import EditStore


@pytest.fixture(scope="module")
def servers(square_run, tmp_path_factory):
    """Two servers on one store, of the authors mika and noor."""
    edits = tmp_path_factory.mktemp("team") / "edits.sqlite"
    data = square_run.folder.parent / "data"
    with EditStore(edits) as store:
        store.save_many([propagated_edit(data, f"{i:03d}.png") for i in (50, 51, 52, 53)])
    servers = [Editor(square_run.folder, edits, "test", "--author", who) for who in ("mika", "noor")]
    for server in servers:
        server.log = edits.with_name(f"{server.port}.log")
        server.start()
    yield servers
    for server in servers:
        server.kill()


def current(page):
    return page.locator("#items button[aria-current=true]").get_attribute("title")


def test_two_people_on_two_servers_see_each_other_and_share_the_list(servers, visit):
    mika, noor = (visit(server, "020.png") for server in servers)
    shows(mika, "#company", "^noor has this image open")
    shows(mika, "#people", r"noor\s+020\.png")
    noor.fill("#search", "bird/02")
    mika.fill("#search", "bird/02")
    mika.locator("#items button[title$='020.png'] .person", has_text="n").wait_for()
    paint(noor, (1, 1))
    mika.locator("#items button[title$='020.png'] .mark.done").wait_for(timeout=5000)
    shows(mika, "#progress-text", "^1 of 200 done")
    shows(mika, "#company", "^noor saved revision 5 of this image meanwhile")
    names = []
    for _ in range(4):
        for page in (mika, noor):
            before = current(page)
            page.keyboard.press("Control+Enter")
            page.locator(f"#items button[aria-current=true]:not([title='{before}'])").wait_for()
            names.append(current(page))
    assert len(set(names)) == 8
    noor.goto("about:blank")
    mika.locator("#people").wait_for(state="hidden", timeout=5000)


def test_a_reviewer_sends_an_edit_back_and_its_author_finds_the_reason(servers, visit):
    mika, noor = visit(servers[0], "030.png"), visit(servers[1])
    paint(mika, (1, 1))
    is_saved(mika, 1)
    noor.locator("#reviewing").check()
    open_image(noor, "030.png")
    shows(noor, "#verdict-text", "^Done by mika")
    noor.keyboard.press("x")
    noor.keyboard.type("the square is missing")
    noor.keyboard.press("Enter")
    mika.locator("#items .mark.sent_back").wait_for(timeout=5000)
    mika.fill("#search", "")
    mika.select_option("#status-filter", "sent_back")
    shows(mika, "#queue-state", "^1 image$")
    mika.reload()
    shows(mika, "#sent-back", "^Sent back by noor: the square is missing$")
    paint(mika, SQUARE)
    is_saved(mika, 2)
    mika.locator("#sent-back").wait_for(state="hidden")
    assert stored(servers[0], "030.png").note == ""
    noor.locator("#reopen").click()
    shows(noor, "#edited-count", "^edited cells: 2$")
    noor.locator("#canvas").focus()
    noor.keyboard.press("a")
    shows(mika, "#progress-text", "1 accepted$")
    noor.locator("#history summary").click()
    for place, text in enumerate(
        ("accepted by", r"by hand · edited cells: 2 \(\+1\)", "sent back by", "by hand")
    ):
        shows(noor, f"#revisions li >> nth={place}", text)
    noor.locator("#revisions canvas[width='96']:not(.missing) >> nth=3").wait_for()
    edits = history(servers[0], "030.png")
    assert [edit.author for edit in edits] == ["mika", "noor", "mika", "noor"]
    notes = ["", "sent back: the square is missing", "", "accepted: "]
    assert [edit.note for edit in edits] == notes


def test_one_key_accepts_or_leaves_unchanged_and_goes_on(servers, visit):
    page = visit(servers[0], "050.png")
    page.fill("#search", "bird/05")
    shows(page, "#queue-state", "^10 images$")
    page.locator("#canvas").focus()
    page.keyboard.press("d")
    shows(page, "#image-name", r"/051\.png$")
    page.keyboard.press("u")
    shows(page, "#image-name", r"/052\.png$")
    page.locator("#items button[title$='051.png'] .mark.unchanged").wait_for()
    page.locator("#accept-many").click()
    shows(page, "#many-count", "^2 images")
    page.locator("#many-sample canvas >> nth=1").wait_for()
    page.locator("#confidence").fill("0.95")
    shows(page, "#many-count", "^0 images")
    assert page.locator("#many-accept").is_disabled()
    page.locator("#confidence").fill("0.9")
    page.locator("#many-accept:enabled").click()
    shows(page, "#stage-message", "^2 propagated edits accepted")
    edits = [stored(servers[0], f"05{i}.png") for i in range(4)]
    assert [edit.author for edit in edits] == ["mika"] * 4
    assert [edit.note for edit in edits][1] == "looked at, nothing to change"

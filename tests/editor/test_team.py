"""Several people on one store: what each is told, whose an image is, reviews, and many edits accepted."""

import json
import multiprocessing
import secrets

import numpy as np
import pytest
from helpers.editing import JSON, all_predicted, items, open_page, stored_edit

from sigmoid_vit.editor import presence as presence_module
from sigmoid_vit.editor.presence import Presence
from sigmoid_vit.edits.store import EditStore

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def other(page, run, tmp_path):
    """A second server on the store of the first one."""
    with open_page(run, tmp_path / "edits.sqlite", split="val", author="noor") as other:
        yield other


def here(server, name, opened="", wanted=(), **params):
    """What a page is told that has an image open and may go on to the wanted ones."""
    images = ",".join(map(str, wanted))
    params = {"page": name * 8, "open": opened, "images": images, "author": name} | params
    return server.post("here", b"{}", JSON, **params).json()


def send_back(server, k, reason="the rim is missing", **params):
    return server.change(f"images/{k}/send_back", json.dumps({"reason": reason}).encode(), JSON, **params)


# several people, several servers


def test_each_server_is_told_what_the_other_saved(page, other):
    start = here(other, "b")["revision"]
    page.save(4, author="mika")
    page.skip(5, author="mika")
    told = here(other, "b", since=start)
    assert told["changed"] == [[4, "d", 1, "mika"], [5, "s", 2, "mika"]]
    assert (told["progress"]["done"], told["progress"]["skipped"]) == (1, 1)
    assert told["authors"] == ["mika"]
    assert here(other, "b", since=told["revision"])["changed"] == []
    assert [item["k"] for item in items(other, order="name", status="done")] == [4]
    assert other.save(4).status_code == 409  # nothing of mika's is overwritten
    assert other.save(4, base=1).json()["revision"] == 3


def test_next_is_nobody_elses_image(page, other):
    assert here(page, "a", 1, [2, 3, 4])["next"] == 2
    told = here(other, "b", 3, [1, 2, 4])
    assert told["next"] == 4  # 1 is open, 2 is kept
    ids = page.session.part.ids
    assert told["people"] == [{"author": "a", "image": ids[1], "open": 1, "next": 2}]
    page.save(6, author="a")
    assert here(other, "b", 3, [6])["next"] is None  # finished meanwhile
    assert here(page, "a", 2, [3])["next"] is None
    assert other.post("leave", b"{}", JSON, page="b" * 8).status_code == 200
    assert here(page, "a", 2, [3])["next"] == 3


def test_what_was_sent_back_is_next_for_its_author_and_reviewers_get_the_work_of_others(page):
    page.save(1, author="mika")
    page.save(2, author="noor")
    assert send_back(page, 1, base=1, author="noor").json()["status"] == "sent_back"
    assert here(page, "b", wanted=[1, 2, 3], author="noor")["next"] == 3
    assert here(page, "a", wanted=[1, 2, 3], author="mika")["next"] == 1
    assert here(page, "a", wanted=[1, 2, 3], author="mika", role="review")["next"] == 2
    assert here(page, "b", wanted=[2, 3], author="noor", role="review")["next"] is None


def announce_often(store, name, kept):
    presence = Presence(store)
    kept.put([presence.announce(name, name, None, [f"{i}"])[1] for i in range(200)])


def test_an_image_is_kept_for_one_page_of_all_processes(tmp_path):
    kept = FORK.Queue()
    args = [(tmp_path / "edits.sqlite", name * 8, kept) for name in "abcd"]
    pages = [FORK.Process(target=announce_often, args=each) for each in args]
    for page in pages:
        page.start()
    found = [kept.get(timeout=30) for _ in pages]
    presence = Presence(tmp_path / "edits.sqlite")
    others, mine = presence.announce("e" * 8, "e", None, ["199"])
    assert sum(each["next"] == "199" for each in others) == 1
    assert mine is None
    assert sum(each[-1] == "199" for each in found) == 1


def test_a_page_that_is_silent_is_gone_and_a_damaged_file_is_begun_anew(tmp_path, monkeypatch):
    presence = Presence(tmp_path / "edits.sqlite")
    presence.announce("a" * 8, "a", "x", [])
    assert presence.path.stat().st_mode & 0o777 == 0o600
    assert [each["image"] for each in presence.announce("b" * 8, "b", None, [])[0]] == ["x"]
    monkeypatch.setattr(presence_module, "GONE", 0)
    assert presence.announce("b" * 8, "b", None, ["x"]) == ([], "x")
    monkeypatch.undo()
    for text in ("{", "[1]", '{"a": 1}'):
        presence.path.write_text(text)
        assert presence.announce("b" * 8, "b", None, ["x"]) == ([], "x")


def test_without_a_file_a_server_knows_its_own_pages(tmp_path, capsys):
    presence = Presence(tmp_path / "file" / "edits.sqlite")
    (tmp_path / "file").write_text("")
    presence.announce("a" * 8, "a", "x", [])
    assert presence.announce("b" * 8, "b", None, ["x", "y"])[1] == "y"
    assert capsys.readouterr().err.count("other servers do not see who is here") == 1


# the statuses of a team


def test_nothing_to_change_is_a_status_of_its_own(page):
    done = page.change("images/4/unchanged", author="mika", note="blurred but right")
    assert done.json()["status"] == "unchanged"
    page.skip(5)
    assert items(page, order="name", status="unchanged")[0]["k"] == 4
    assert page.get("queue").json()["progress"]["unchanged"] == 1
    edit = page.session.edits.store.current(page.session.part.ids[4])
    assert edit.note == "looked at, nothing to change: blurred but right"
    assert not edit.edited.any()
    assert page.change("images/4/approve", base=1, author="noor").json()["status"] == "accepted"
    assert page.save(4, base=3, author="mika").json()["status"] == "done"


def test_a_review_repeats_the_edit_and_says_who_drew_it(page):
    page.save(4, 0.25, [(0, 5)], author="mika", note="beak")
    assert page.change("images/4/approve", base=1, author="mika").status_code == 400  # one's own
    assert page.change("images/5/approve", base=1, author="noor").status_code == 400  # nothing there
    assert send_back(page, 4, base=1, author="noor").json()["status"] == "sent_back"
    described = page.get("images/4").json()
    assert (described["author"], described["edit"]["author"], described["edit"]["note"]) == (
        "mika",
        "mika",
        "beak",
    )
    assert described["edit"]["review"] == {"author": "noor", "reason": "the rim is missing"}
    assert items(page, order="name", author="mika")[0]["k"] == 4
    client_id = secrets.token_hex(8)
    for _ in range(2):  # sent again, it is one
        accepted = page.change("images/4/approve", base=2, author="noor", client_id=client_id)
        assert accepted.json()["revision"] == 3
    progress = page.get("queue").json()["progress"]
    assert (progress["done"], progress["accepted"], progress["sent_back"]) == (0, 1, 0)
    first, second, third = page.session.edits.store.history()
    for review, note in ((second, "sent back: the rim is missing"), (third, "accepted: beak")):
        assert (review.author, review.note) == ("noor", note)
        assert np.array_equal(review.value, first.value)
        assert np.array_equal(review.edited, first.edited)
    page.save(4, 0.5, base=3, author="mika")
    late = page.change("images/4/approve", base=3, author="noor")
    assert late.status_code == 409  # of what the reviewer has not seen
    restored = page.change("images/4/restore", base=4, revision=3, author="mika")
    assert restored.json()["status"] == "done"  # nobody accepts his own by a restore


def test_filters_by_answer_and_author(page):
    all_predicted(page)
    p, labels = page.session.predictions.prediction, page.session.part.labels
    page.save(7, author="mika")
    for params, expected in (
        ({"answer": "right"}, p == labels),
        ({"answer": "wrong"}, p != labels),
        ({"predicted": 3}, p == 3),
        ({"predicted": 3, "class": 5, "answer": "wrong"}, (p == 3) & (labels == 5)),
        ({"author": "mika"}, np.arange(len(p)) == 7),
        ({"author": "mi"}, np.zeros(len(p), bool)),
    ):
        found = page.get("queue", order="name", **params).json()["images"]
        assert sorted(found) == np.flatnonzero(expected).tolist(), params


def test_many_propagated_edits_are_accepted_and_what_changed_meanwhile_is_left(page, run, tmp_path):
    page.__exit__(None, None, None)
    sure = {1: 0.95, 2: 0.9, 3: 0.5, 4: 0.99, 5: 0.97}
    with EditStore(tmp_path / "edits.sqlite") as store:
        store.save_many(stored_edit(page, k, "propagated", confidence=c) for k, c in sure.items())
    options = dict(split="val", author="mika")
    with open_page(run, tmp_path / "edits.sqlite", **options) as page:
        told = page.get("propagated", confidence="0.9", sample=3).json()
        assert (told["total"], len(told["sample"])) == (4, 3)
        assert {each["revision"] for each in told["sample"]} <= {1, 2, 4, 5}
        with EditStore(tmp_path / "edits.sqlite") as store:  # another program
            store.save(stored_edit(page, 4, "noor"))
            store.delete(page.session.part.ids[5], "noor")
            store.restore(page.session.part.ids[5], 5, "propagated")  # not what was counted
        params = {"confidence": "0.9", "through": told["through"]}
        assert page.post("accept_all", b"{}", JSON, **params).json() == {"accepted": 2}
        status = {k: page.get(f"images/{k}").json()["status"] for k in sure}
        assert status == {1: "done", 2: "done", 3: "propagated", 4: "done", 5: "propagated"}
        assert [page.get(f"images/{k}").json()["author"] for k in (1, 4)] == ["mika", "noor"]
        assert page.post("accept_all", b"{}", JSON, **params).json() == {"accepted": 0}
        for confidence in ("", "2", "-1", "nan", "1e-3"):
            assert page.get("propagated", confidence=confidence).status_code == 400

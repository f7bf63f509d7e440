"""Changes: what is acknowledged is stored, and nothing is overwritten."""

import json
import secrets
import threading

import numpy as np
import pytest
from helpers.editing import (
    BINARY,
    JSON,
    items,
    open_page,
    stored_edit,
    wait_for,
)

from sigmoid_vit.edits.store import EditStore, StoredEdit


def test_what_is_saved_is_what_comes_back(page):
    body = page.body(0.25, [(0, 5), (3, 3)])
    scope = dict(layers="0,2", heads="1", queries="cls")
    response = page.change("images/4/edit", body, author="Jörg 森", note="Schnabel", **scope).json()
    assert response["revision"] == 1
    assert response["status"] == "done"
    assert page.get("images/4/edit").content == body == page.get("images/4/edit", revision=1).content
    described = page.get("images/4").json()
    assert described["newest"] == 1
    assert described["status"] == "done"
    expected = {"revision": 1, "author": "Jörg 森", "note": "Schnabel", "layers": [0, 2], "heads": [1]}
    expected |= {"queries": "cls", "created": response["created"], "confidence": None, "review": None}
    assert described["edit"] == expected | {"per_head": False, "resized": False, "other_weights": False}
    edit = page.session.edits.store.current(page.session.part.ids[4])
    assert edit.image_sha256 == page.session.part.sha256(4)
    assert len(edit.weights_sha256) == 64
    assert edit.value[0, 5] == 0.25
    assert edit.edited.sum() == 2


def test_the_same_save_sent_again_is_one(page):
    for name, body, kind, more in (
        ("edit", page.body(), BINARY, {}),
        ("skip", b'{"reason": "blurred"}', "application/json", {}),
        ("delete", b"", BINARY, {}),
        ("restore", b"", BINARY, dict(revision=1)),
    ):
        newest = page.get("images/4").json()["newest"]
        params = dict(base=newest or "none", client_id=secrets.token_hex(16), **more)
        first, again = (page.change(f"images/4/{name}", body, kind, **params) for _ in range(2))
        assert first.status_code == 200 and first.json() == again.json(), name
    assert [edit.revision for edit in page.session.edits.store.history()] == [1, 2, 3, 4]
    other = page.save(4, 0.5, base=4, client_id=params["client_id"])
    assert other.status_code == 400
    assert "client id" in other.json()["error"]


def test_a_late_repetition_changes_no_status(page):
    page.save(4, client_id="ab" * 8)
    page.change("images/4/delete", base=1)
    assert page.save(4, client_id="ab" * 8).json()["revision"] == 1
    assert page.get("images/4").json()["status"] == "todo"
    assert page.get("queue").json()["progress"]["done"] == 0


def test_an_old_base_is_a_conflict_and_stores_nothing(page):
    page.save(4, 0.1, author="noor", note="first")
    theirs = page.get("images/4/history").json()["revisions"][0]
    theirs = {name: theirs[name] for name in ("revision", "author", "created", "deleted", "note")}
    theirs |= {"layers": "all", "heads": None, "queries": "all"}
    for base in ("none", 7):
        for response in (
            page.save(4, 0.9, base=base),
            page.skip(4, base=base),
            page.change("images/4/delete", base=base),
            page.change("images/4/restore", base=base, revision=1),
        ):
            assert response.status_code == 409
            assert response.json()["theirs"] == theirs
    assert len(page.session.edits.store.history()) == 1
    mine = page.save(4, 0.9, base=theirs["revision"])  # the person chose his own
    assert mine.status_code == 200


def test_changes_not_yet_saved_belong_to_the_store_however_it_is_spelled(run, tmp_path, monkeypatch):
    works = []
    (tmp_path / "other").mkdir()
    for folder, edits, split in (
        (tmp_path, tmp_path / "edits.sqlite", "val"),
        (tmp_path / "other", "../edits.sqlite", "val"),
        (tmp_path, "edits.sqlite", "test"),
        (tmp_path, "other/edits.sqlite", "val"),
    ):
        monkeypatch.chdir(folder)
        with open_page(run, edits, split=split) as page:
            works.append(page.get("session").json()["work"])
    assert works[0] == works[1]
    assert len(set(works)) == 3


def test_two_people_delete_the_same_edit(page):
    page.save(4)
    assert page.change("images/4/delete", base=1).json()["status"] == "todo"
    response = page.change("images/4/delete", base=1)
    assert response.status_code == 409
    assert response.json()["theirs"]["deleted"] is True
    again = page.change("images/4/delete", base=2)  # knowing that it is gone
    assert again.json()["revision"] == 2
    assert len(page.session.edits.store.history()) == 2
    assert page.save(4, base=2).status_code == 200


def test_undo_and_redo_are_revisions(page):
    first, second = page.body(0.1), page.body(0.2, [(2, 2)])
    page.change("images/4/edit", first)
    page.change("images/4/edit", second, base=1)
    assert page.change("images/4/restore", base=2, revision=1).json()["revision"] == 3
    assert page.get("images/4/edit").content == first
    page.change("images/4/delete", base=3)
    assert page.get("images/4/edit").status_code == 404
    assert page.get("images/4").json()["newest"] == 4
    assert page.change("images/4/restore", base=4, revision=2).json()["status"] == "done"
    assert page.get("images/4/edit").content == second
    history = page.get("images/4/history").json()["revisions"]
    assert [(edit["revision"], edit["deleted"]) for edit in history] == [
        (5, False), (4, True), (3, False), (2, False), (1, False)
    ]  # fmt: skip
    assert page.change("images/4/restore", base=5, revision=9).status_code == 404
    assert page.change("images/5/restore", revision=1).status_code == 404  # of another image


def test_statuses_and_progress(page):
    page.save(1)
    page.skip(2, "cannot see the bird")
    page.save(3)
    page.change("images/3/delete", base=3)
    progress = page.get("queue").json()["progress"]
    assert progress["images"] == 130
    assert {name: n for name, n in progress.items() if n} == {"images": 130, "done": 1, "skipped": 1}
    assert page.get("images/2").json()["edit"]["note"] == "skipped: cannot see the bird"
    assert [item["k"] for item in items(page, order="name", status="done")] == [1]
    assert [item["k"] for item in items(page, order="name", status="skipped")] == [2]
    assert page.get("queue", order="name", status="todo").json()["total"] == 128


def test_statuses_survive_a_restart(page, run, tmp_path):
    page.save(1)
    page.skip(2)
    page.__exit__(None, None, None)
    with open_page(run, tmp_path / "edits.sqlite", split="val") as again:
        assert again.get("queue").json()["progress"]["done"] == 1
        assert [item["k"] for item in items(again, order="name", status="skipped")] == [2]


def test_propagated_edits_are_accepted_or_rejected(page, run, tmp_path):
    page.__exit__(None, None, None)
    with EditStore(tmp_path / "edits.sqlite") as store:
        store.save_many(stored_edit(page, k, "propagated", confidence=0.75) for k in (1, 2, 3, 4))
    with open_page(run, tmp_path / "edits.sqlite", split="val") as page:
        assert page.get("queue").json()["progress"]["propagated"] == 4
        described = page.get("images/1").json()
        assert described["status"] == "propagated"
        assert described["edit"]["confidence"] == 0.75
        id_ = secrets.token_hex(8)
        for _ in range(2):  # the second is a repetition
            accepted = page.change("images/1/accept", base=1, client_id=id_, author="mika")
            assert accepted.json()["status"] == "done"
        edit = page.get("images/1").json()["edit"]
        assert (edit["author"], edit["confidence"]) == ("mika", None)
        assert page.change("images/1/accept", base=5).status_code == 400  # nothing propagated any more
        assert page.change("images/2/accept", base=1).status_code == 404
        assert page.change("images/3/delete", base=3).json()["status"] == "todo"  # rejected
        assert page.save(4, 0.3, base=4).json()["status"] == "done"  # corrected
        undone = page.change("images/4/restore", base=page.get("images/4").json()["newest"], revision=4)
        assert undone.json()["status"] == "propagated"  # as before, and nobody's
        assert page.get("images/4").json()["edit"]["author"] == "propagated"
        assert page.save(2, base=2, author="propagated").status_code == 400


def test_edits_of_another_grid_and_per_head_are_shown(page, run, tmp_path):
    page.__exit__(None, None, None)
    part = page.session.part
    coarse = np.array([[0, 1], [0.5, 0.25]], np.float32)
    heads = np.stack([np.full((6, 6), 0.2, np.float32), np.full((6, 6), 0.8, np.float32)])
    edited = np.ones((2, 6, 6), bool)
    edited[1, 0, 0] = False  # this cell: the first head alone
    edited[:, 5, 5] = False
    with EditStore(tmp_path / "edits.sqlite") as store:
        store.save(StoredEdit(part.ids[1], part.sha256(1), coarse, coarse < 2, "a", layers="last"))
        store.save(StoredEdit(part.ids[2], part.sha256(2), heads, edited, "a", weights_sha256="0" * 64))
    with open_page(run, tmp_path / "edits.sqlite", split="val") as page:
        content = page.get("images/1/edit").content
        value, cells = np.frombuffer(content, "<f4", 36).reshape(6, 6), content[144:]
        assert cells == b"\1" * 36
        assert value[0, 0] == 0
        assert value[0, 5] == 1
        assert value[5, 0] == 0.5
        edit = page.get("images/1").json()["edit"]
        assert edit["resized"]
        assert not edit["per_head"]
        assert not edit["other_weights"]  # none are named
        assert edit["layers"] == "last"
        content = page.get("images/2/edit").content
        value, cells = np.frombuffer(content, "<f4", 36).reshape(6, 6), content[144:]
        assert value[0, 0] == np.float32(0.2)
        assert value[3, 3] == pytest.approx(0.5)
        assert cells == b"\1" * 35 + b"\0"
        assert page.get("images/2").json()["edit"]["per_head"]
        assert page.get("images/2").json()["edit"]["other_weights"]


def test_an_edit_of_another_image_of_the_same_name(page, run, tmp_path):
    page.__exit__(None, None, None)
    with EditStore(tmp_path / "edits.sqlite") as store:
        foreign = store.save(stored_edit(page, 1, "noor"))
        object.__setattr__(foreign, "image_sha256", "0" * 64)
        object.__setattr__(foreign, "client_id", None)
        store.save(foreign)
    with open_page(run, tmp_path / "edits.sqlite", split="val") as page:
        wait_for(lambda: page.get("images/1").json()["status"] == "todo")
        described = page.get("images/1").json()
        assert described["edit"] is None
        assert described["newest"] == 2
        assert described["of_another_image"] == {"revision": 2, "author": "noor"}
        assert page.get("images/1/edit").status_code == 404
        assert page.change("images/1/restore", base=2, revision=2).status_code == 400
        assert page.save(1, base="none").status_code == 409  # never in silence
        assert page.save(1, base=2).json()["status"] == "done"
        assert page.get("images/1").json()["of_another_image"] is None
        assert len(page.get("images/1/history").json()["revisions"]) == 3


def test_a_full_disk_is_said_and_saving_works_again(page, tmp_path, capfd):
    page.save(1, client_id="aa" * 8)
    db = page.session.edits.store._db
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    responses = [page.save(k, note="x" * 2000, cells=[(0, k % 6)]) for k in range(2, 12)]
    full = [response for response in responses if response.status_code != 200]
    assert full
    assert {response.status_code for response in full} == {507}
    assert all("NOT SAVED" in response.json()["error"] for response in full)
    assert str(tmp_path) not in "".join(response.text for response in full)
    assert str(tmp_path) in capfd.readouterr().err  # the terminal has it
    db.execute("PRAGMA max_page_count = 100000")
    assert page.save(20).status_code == 200
    saved = len([response for response in responses if response.status_code == 200])
    assert len(page.session.edits.store.history()) == saved + 2


def test_a_store_that_was_moved_is_said_and_saving_works_again(page, tmp_path, capfd):
    file, away = tmp_path / "edits.sqlite", tmp_path / "away.sqlite"
    assert page.save(1).status_code == 200
    file.rename(away)
    refused = page.save(2, client_id="aa" * 8)
    assert refused.status_code == 503
    assert refused.json()["error"].startswith("NOT SAVED: the store is not where it was")
    assert "was moved, deleted or replaced while it was open" in capfd.readouterr().err
    assert page.get("export").status_code == 200  # what was saved before is not lost
    away.rename(file)
    assert page.save(2, client_id="aa" * 8).json()["revision"] == 2


def test_eight_people_at_once_lose_nothing(page):
    acknowledged, failed = [], []

    def person(number):
        base = {}
        for i in range(15):
            k = 10 * number + i % 3
            response = page.save(k, i / 15, base=base.get(k, "none"), author=f"person {number}")
            if response.status_code == 200:
                base[k] = response.json()["revision"]
                acknowledged.append((k, response.json()["revision"], np.float32(i / 15)))
            else:
                failed.append(response.text)

    people = [threading.Thread(target=person, args=(number,)) for number in range(8)]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()
    assert not failed
    assert len({revision for _, revision, _ in acknowledged}) == 120
    by_revision = {edit.revision: edit for edit in page.session.edits.store.history()}
    assert len(by_revision) == 120
    assert all(by_revision[r].value[0, 0] == value for _, r, value in acknowledged)


def test_one_edit_for_many_images(page):
    """Each is a revision of its own; what somebody saved meanwhile stays, unless it was ticked as it is."""
    scope = dict(layers="0,2", heads="1", queries="cls")
    source = page.change("images/4/edit", page.body(0.25, [(0, 5), (3, 3)]), **scope).json()["revision"]
    old = page.save(6, 0.9, author="noor").json()["revision"]
    page.save(7, 0.9, author="noor")
    newest = page.get("newest", images="5,6").json()["images"]
    assert [(each["k"], each["status"], each["revision"], each["author"]) for each in newest] == [
        (5, "todo", None, None),
        (6, "done", old, "noor"),
    ]
    to = [{"k": 5, "base": None}, {"k": 6, "base": old}, {"k": 7, "base": None}]
    body = json.dumps({"from": {"k": 4, "revision": source}, "to": to}).encode()
    params = dict(author="mika", client_id="ab" * 8)
    found = page.post("apply", body, JSON, **params).json()
    assert [(each["k"], each["status"]) for each in found["saved"]] == [(5, "done"), (6, "done")]
    assert found["refused"] == [{"k": 7, "author": "noor"}]
    for each in found["saved"]:
        assert page.get(f"images/{each['k']}/edit").content == page.body(0.25, [(0, 5), (3, 3)])
        edit = page.get(f"images/{each['k']}").json()["edit"]
        assert edit["revision"] == each["revision"]
        assert (edit["layers"], edit["heads"], edit["queries"]) == ([0, 2], [1], "cls")
        assert edit["author"] == "mika"
        assert edit["note"] == f"the edit of {page.session.part.ids[4]}, revision {source}"
    assert len(page.get("images/6/history").json()["revisions"]) == 2
    before = len(page.session.edits.store.history())
    assert page.post("apply", body, JSON, **params).json() == found  # sent again
    assert len(page.session.edits.store.history()) == before


def test_an_image_without_edited_cells_is_not_applied(page):
    revision = page.skip(4).json()["revision"]
    to = [{"k": 5, "base": None}]
    body = json.dumps({"from": {"k": 4, "revision": revision}, "to": to}).encode()
    response = page.post("apply", body, JSON, client_id="ab" * 8)
    assert response.status_code == 400
    assert "no edited cells" in response.json()["error"]

"""What the page relies on: what is acknowledged is stored, nothing is overwritten, every answer is true."""

import io
import itertools
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.editing import BINARY, Page, app_of, make_images, make_run, open_page
from PIL import Image

from sigmoid_vit import AttentionEdit, UserError
from sigmoid_vit.annotations.importing import import_edits
from sigmoid_vit.editor import EditorOptions, show
from sigmoid_vit.editor import server as server_module
from sigmoid_vit.editor.server import Server, _listen
from sigmoid_vit.edits.store import EditStore, StoredEdit

ROOT = Path(__file__).parents[2]
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("editor"))


@pytest.fixture
def page(run, tmp_path):
    with open_page(run, tmp_path / "edits.sqlite", split="val") as page:
        yield page


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def all_predicted(page):
    """From here on two looks at the queue are the same."""
    wait_for(lambda: page.get("queue").json()["ready"] == 1)


def items(page, **params):
    answer = page.get("queue", **params)
    assert answer.status_code == 200
    return answer.json()["items"]


def stored(page, k, author="mika", cells=((0, 0),), **changes):
    """An edit as another program puts it into the store before the editor is opened."""
    value, edited = np.zeros(page.grid, np.float32), np.zeros(page.grid, bool)
    for cell in cells:
        edited[cell] = True
    part = page.session.part
    return StoredEdit(part.ids[k], part.sha256(k), value, edited, author, **changes)


# ---------------------------------------------------------------- reading


def test_the_session_says_what_the_page_needs(page, run):
    facts = page.get("session").json()
    assert facts["grid"] == [6, 6] and (facts["layers"], facts["heads"]) == (3, 2)
    assert facts["classes"] == run.classes and facts["images"] == 130 and facts["masks"]
    assert (facts["run"], facts["split"]) == ("run", "val")
    assert (facts["prefix_tokens"], facts["class_token"]) == (1, True)
    assert facts["author"] and "mixed" in facts["orders"]
    assert facts["scope"] == {"layers": "all", "heads": None, "queries": "all"}


def test_the_training_command_survives_a_shell(tmp_path):
    run = make_run(tmp_path / "it's a $(run)")
    with open_page(run, tmp_path / "my edits;.sqlite") as page:
        command = page.get("session").json()["command"]
    instead = """sh -c 'printf "%s|%s|%s" "$FIRST_STEP" "$EDITS" "$PROPAGATE"'"""
    shown = command.replace("bash run_vit_hitl_training.sh", instead)
    told = subprocess.run(["sh", "-c", shown], capture_output=True, text=True).stdout
    assert told == f"{run.folder}|{tmp_path / 'my edits;.sqlite'}|true"


def test_answers_are_sent_at_once():
    """Head and body of an answer are two writes; without this the second waits 40 ms for the browser."""
    with _listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_orders_of_the_queue(page):
    """From the definitions, over all images."""
    all_predicted(page)
    p, labels = page.session.predictions, page.session.part.labels
    names = [item["id"] for item in items(page, order="name", limit=1000)]
    assert names == sorted(page.session.part.ids, key=lambda name: int(name.split("/")[1]))
    every = {item["k"]: item for item in items(page, order="name", limit=1000)}
    assert all(item["prediction"] == p.prediction[k] for k, item in every.items())

    errors = items(page, order="errors", limit=1000)
    assert {item["k"] for item in errors} == set(np.flatnonzero(p.prediction != labels).tolist())
    assert all(a["confidence"] >= b["confidence"] for a, b in itertools.pairwise(errors))
    unsure = items(page, order="uncertain", limit=1000)
    assert all(a["confidence"] <= b["confidence"] for a, b in itertools.pairwise(unsure))
    assert len(unsure) == 130
    off = items(page, order="attention_off", limit=1000)
    assert [p.outside[item["k"]] for item in off] == sorted(p.outside.tolist(), reverse=True)
    mixed = [item["label"] for item in items(page, order="mixed", limit=1000)]
    assert [sorted(mixed[i : i + 10]) for i in (0, 10, 20)] == [list(range(10))] * 3
    assert len(mixed) == 130 and sorted(mixed) == sorted(labels.tolist())
    by_class = items(page, order="class", limit=1000)
    assert [item["label"] for item in by_class] == sorted(labels.tolist())


def test_filters_and_pages_of_the_queue(page):
    all_predicted(page)
    whole = items(page, order="name", limit=1000)
    after = {place: whole[place]["k"] for place in (19, 128, 129)}
    assert items(page, order="name", after=after[19], limit=7) == whole[20:27]
    assert items(page, order="name", after=after[128]) == whole[129:]
    assert items(page, order="name", after=after[129]) == []
    threes = page.get("queue", **{"order": "name", "class": 3, "limit": 1}).json()
    assert threes["total"] == sum(item["label"] == 3 for item in whole) > len(threes["items"]) == 1
    found = items(page, order="name", search="RAIN/11", limit=1000)
    assert found == [item for item in whole if "train/11" in item["id"]] != []


def test_the_queue_is_there_before_the_predictions(run, tmp_path, monkeypatch):
    monkeypatch.setattr("sigmoid_vit.editor.predictions.SplitPredictions.compute", lambda *_: None)
    with open_page(run, tmp_path / "edits.sqlite") as page:
        answer = page.get("queue", order="uncertain").json()
        assert answer["ready"] == 0 and answer["total"] == 1167 and len(answer["items"]) == 100
        assert {item["prediction"] for item in answer["items"]} == {None}
        assert page.get("queue", order="errors").json()["total"] == 0


def test_describing_an_image(page):
    answer = page.get("images/7").json()
    part = page.session.part
    assert (answer["k"], answer["id"], answer["label"]) == (7, part.ids[7], part.labels[7])
    assert answer["size"] == [24, 24]
    assert (answer["newest"], answer["edit"], answer["status"]) == (None, None, "todo")
    p = page.session.predictor.unedited(7)
    assert [top["class"] for top in answer["top"][:5]] == p.argsort(descending=True)[:5].tolist()
    assert answer["top"][0]["p"] == p.max()
    assert all(row["p"] == row["before"] == p[row["class"]] for row in answer["top"])
    assert part.labels[7] in {row["class"] for row in answer["top"]} and answer["of_another_image"] is None
    assert page.get("images/7/edit").status_code == 404
    assert page.get("images/7/history").json() == {"revisions": []}


def test_pictures_show_the_image(page, tmp_path):
    shown = Image.open(io.BytesIO(page.get("images/7/picture").content))
    assert (np.asarray(shown) == page.session.part.images[7].permute(1, 2, 0).numpy()).all()
    small = Image.open(io.BytesIO(page.get("images/7/thumbnail").content))
    assert (small.format, small.size) == ("JPEG", (96, 96))


def test_pictures_of_files_are_upright_and_not_too_large(tmp_path):
    folder = make_images(tmp_path / "images", [(1200, 600), (50, 20)])
    turned = Image.open(folder / "train/a/1.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned.save(folder / "train/b/1.png", exif=exif)
    run = make_run(tmp_path, "--dataset", "folder", "--dataset_path", str(folder), "--img_size", "32", *TINY)
    with open_page(run, tmp_path / "edits.sqlite") as page:
        sizes = [page.get(f"images/{k}").json()["size"] for k in range(4)]
        assert sizes == [[1200, 600], [50, 20], [1200, 600], [20, 50]]
        shown = [Image.open(io.BytesIO(page.get(f"images/{k}/picture").content)) for k in range(4)]
        assert [image.size for image in shown] == [(1024, 512), (50, 20), (1024, 512), (20, 50)]
        small = [page.get(f"images/{k}/thumbnail").content for k in range(4)]
        assert [Image.open(io.BytesIO(s)).size for s in small] == [(96, 48), (96, 38), (96, 48), (38, 96)]
        kept = sorted((run.folder / "editor_cache/thumbnails").iterdir())
        assert len(kept) == 4
        kept[0].write_bytes(b"from disk")
        assert b"from disk" in [page.get(f"images/{k}/thumbnail").content for k in range(4)]


TINY = ("--model_name", "vit_tiny_patch16_224", "--pretrained", "false")
TINY += ("--model_kwargs", "patch_size=8", "embed_dim=24", "depth=2", "num_heads=2")


def test_attention_maps(page):
    predictor = page.session.predictor
    for params, expected in (
        ({}, predictor.attention(3, 2, None, "cls")),
        (dict(layer=1, head=0, query=9), predictor.attention(3, 1, 0, 9)),
        (dict(view="rollout"), predictor.rollout(3, "cls")),
        (dict(view="rollout", query=9), predictor.rollout(3, 9)),
    ):
        got = np.frombuffer(page.get("images/3/attention", **params).content, "<f4")
        assert (got == expected.flatten().numpy()).all() and 0 <= got.min() < got.max() <= 1


# ---------------------------------------------------------------- predicting


@pytest.mark.parametrize("scope", ["", "layers=last", "layers=0&heads=1", "layers=0,2&queries=cls&heads=0,1"])
def test_a_prediction_follows_the_stroke_and_its_scope(page, scope):
    given = dict(pair.split("=") for pair in scope.split("&") if pair)
    numbers = {name: [int(i) for i in value.split(",")] for name, value in given.items() if value[0] in "012"}
    answer = page.post("images/2/predict", page.body(1.0, [(1, 1), (4, 2)]), **given).json()
    value, edited = torch.zeros(1, 6, 6), torch.zeros(1, 6, 6, dtype=torch.bool)
    for cell in ((0, 1, 1), (0, 4, 2)):
        value[cell], edited[cell] = 1, True
    edit = AttentionEdit(value, edited, **{**given, **numbers})
    p, before = page.session.predictor.edited(2, edit), page.session.predictor.unedited(2)
    assert not torch.equal(p, before)
    ranked = p.argsort(descending=True).tolist()
    others = {int(page.session.part.labels[2]), int(before.argmax())} - set(ranked[:5])
    rows = ranked[:5] + sorted(others, key=ranked.index)
    assert answer == {"top": [{"class": i, "p": p[i], "before": before[i]} for i in rows]}
    assert page.session.edits.store.history() == []  # nothing was stored


def test_a_grid_without_edited_cells_predicts_as_the_network_does(page):
    unedited = page.get("images/2").json()
    answer = page.post("images/2/predict", page.body(0.5, [])).json()
    assert answer == {"top": unedited["top"]}


# ---------------------------------------------------------------- saving


def test_what_is_saved_is_what_comes_back(page):
    body = page.body(0.25, [(0, 5), (3, 3)])
    scope = dict(layers="0,2", heads="1", queries="cls")
    answer = page.change("images/4/edit", body, author="Jörg 森", note="Schnabel", **scope).json()
    assert answer["revision"] == 1 and answer["status"] == "done"
    assert page.get("images/4/edit").content == body == page.get("images/4/edit", revision=1).content
    described = page.get("images/4").json()
    assert described["newest"] == 1 and described["status"] == "done"
    expected = {"revision": 1, "author": "Jörg 森", "note": "Schnabel", "layers": [0, 2], "heads": [1]}
    expected |= {"queries": "cls", "created": answer["created"], "confidence": None}
    assert described["edit"] == expected | {"per_head": False, "resized": False}
    edit = page.session.edits.store.current(page.session.part.ids[4])
    assert edit.image_sha256 == page.session.part.sha256(4) and len(edit.weights_sha256) == 64
    assert edit.value[0, 5] == 0.25 and edit.edited.sum() == 2


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
    assert other.status_code == 400 and "client id" in other.json()["error"]


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
        for answer in (
            page.save(4, 0.9, base=base),
            page.skip(4, base=base),
            page.change("images/4/delete", base=base),
            page.change("images/4/restore", base=base, revision=1),
        ):
            assert answer.status_code == 409 and answer.json()["theirs"] == theirs
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
    assert works[0] == works[1] and len(set(works)) == 3


def test_two_people_delete_the_same_edit(page):
    page.save(4)
    assert page.change("images/4/delete", base=1).json()["status"] == "todo"
    answer = page.change("images/4/delete", base=1)
    assert answer.status_code == 409 and answer.json()["theirs"]["deleted"] is True
    again = page.change("images/4/delete", base=2)  # knowing that it is gone
    assert again.json()["revision"] == 2 and len(page.session.edits.store.history()) == 2
    assert page.save(4, base=2).status_code == 200


def test_undo_and_redo_are_revisions(page):
    first, second = page.body(0.1), page.body(0.2, [(2, 2)])
    page.change("images/4/edit", first)
    page.change("images/4/edit", second, base=1)
    assert page.change("images/4/restore", base=2, revision=1).json()["revision"] == 3
    assert page.get("images/4/edit").content == first
    page.change("images/4/delete", base=3)
    assert page.get("images/4/edit").status_code == 404 and page.get("images/4").json()["newest"] == 4
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
    assert progress == {"images": 130, "done": 1, "skipped": 1, "predicted": 0}
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


def test_predicted_edits_are_accepted_or_rejected(page, run, tmp_path):
    page.__exit__(None, None, None)
    with EditStore(tmp_path / "edits.sqlite") as store:
        store.save_many(stored(page, k, "propagated", confidence=0.75) for k in (1, 2, 3, 4))
    with open_page(run, tmp_path / "edits.sqlite", split="val") as page:
        assert page.get("queue").json()["progress"]["predicted"] == 4
        described = page.get("images/1").json()
        assert described["status"] == "predicted" and described["edit"]["confidence"] == 0.75
        id_ = secrets.token_hex(8)
        for _ in range(2):  # the second is a repetition
            accepted = page.change("images/1/accept", base=1, client_id=id_, author="mika")
            assert accepted.json()["status"] == "done"
        edit = page.get("images/1").json()["edit"]
        assert (edit["author"], edit["confidence"]) == ("mika", None)
        assert page.change("images/1/accept", base=5).status_code == 400  # nothing predicted any more
        assert page.change("images/2/accept", base=1).status_code == 404
        assert page.change("images/3/delete", base=3).json()["status"] == "todo"  # rejected
        assert page.save(4, 0.3, base=4).json()["status"] == "done"  # corrected
        undone = page.change("images/4/restore", base=page.get("images/4").json()["newest"], revision=4)
        assert undone.json()["status"] == "predicted"  # as before, and nobody's
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
        store.save(StoredEdit(part.ids[2], part.sha256(2), heads, edited, "a"))
    with open_page(run, tmp_path / "edits.sqlite", split="val") as page:
        content = page.get("images/1/edit").content
        value, cells = np.frombuffer(content, "<f4", 36).reshape(6, 6), content[144:]
        assert cells == b"\1" * 36 and value[0, 0] == 0 and value[0, 5] == 1 and value[5, 0] == 0.5
        edit = page.get("images/1").json()["edit"]
        assert edit["resized"] and not edit["per_head"] and edit["layers"] == "last"
        content = page.get("images/2/edit").content
        value, cells = np.frombuffer(content, "<f4", 36).reshape(6, 6), content[144:]
        assert value[0, 0] == np.float32(0.2) and value[3, 3] == pytest.approx(0.5)
        assert cells == b"\1" * 35 + b"\0"
        assert page.get("images/2").json()["edit"]["per_head"]


def test_an_edit_of_another_image_of_the_same_name(page, run, tmp_path):
    page.__exit__(None, None, None)
    with EditStore(tmp_path / "edits.sqlite") as store:
        foreign = store.save(stored(page, 1, "noor"))
        object.__setattr__(foreign, "image_sha256", "0" * 64)
        object.__setattr__(foreign, "client_id", None)
        store.save(foreign)
    with open_page(run, tmp_path / "edits.sqlite", split="val") as page:
        wait_for(lambda: page.get("images/1").json()["status"] == "todo")
        described = page.get("images/1").json()
        assert described["edit"] is None and described["newest"] == 2
        assert described["of_another_image"] == {"revision": 2, "author": "noor"}
        assert page.get("images/1/edit").status_code == 404
        assert page.change("images/1/restore", base=2, revision=2).status_code == 400
        assert page.save(1, base="none").status_code == 409  # never in silence
        assert page.save(1, base=2).json()["status"] == "done"
        assert page.get("images/1").json()["of_another_image"] is None
        assert len(page.get("images/1/history").json()["revisions"]) == 3


def test_the_export_is_what_import_edits_reads(page, tmp_path):
    page.save(4, 0.3, author="mika")
    answer = page.get("export")
    assert answer.headers["content-type"] == "application/zip"
    zipfile.ZipFile(io.BytesIO(answer.content)).extractall(tmp_path / "export")
    with EditStore(tmp_path / "copy.sqlite") as copy:
        (edit,) = import_edits(copy, tmp_path / "export")
        assert edit == page.session.edits.store.current(page.session.part.ids[4])


def test_a_full_disk_is_said_and_saving_works_again(page, tmp_path, capfd):
    page.save(1, client_id="aa" * 8)
    db = page.session.edits.store._db
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    answers = [page.save(k, note="x" * 2000, cells=[(0, k % 6)]) for k in range(2, 12)]
    full = [answer for answer in answers if answer.status_code != 200]
    assert full and {answer.status_code for answer in full} == {507}
    assert all("NOT SAVED" in answer.json()["error"] for answer in full)
    assert str(tmp_path) not in "".join(answer.text for answer in full)
    assert str(tmp_path) in capfd.readouterr().err  # the terminal is told
    db.execute("PRAGMA max_page_count = 100000")
    assert page.save(20).status_code == 200
    saved = len([answer for answer in answers if answer.status_code == 200])
    assert len(page.session.edits.store.history()) == saved + 2


def test_eight_people_at_once_lose_nothing(page):
    acknowledged, failed = [], []

    def person(number):
        base = {}
        for i in range(15):
            k = 10 * number + i % 3
            answer = page.save(k, i / 15, base=base.get(k, "none"), author=f"person {number}")
            if answer.status_code == 200:
                base[k] = answer.json()["revision"]
                acknowledged.append((k, answer.json()["revision"], np.float32(i / 15)))
            else:
                failed.append(answer.text)

    people = [threading.Thread(target=person, args=(number,)) for number in range(8)]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()
    assert not failed and len({revision for _, revision, _ in acknowledged}) == 120
    by_revision = {edit.revision: edit for edit in page.session.edits.store.history()}
    assert len(by_revision) == 120
    assert all(by_revision[r].value[0, 0] == value for _, r, value in acknowledged)


# ---------------------------------------------------------------- names, prefixes, notebooks


def test_hostile_names_travel_as_json(tmp_path):
    folder = make_images(tmp_path / "images", [(20, 20)], classes=(HOSTILE, "b\x07\u202e"))
    (folder / "train" / HOSTILE / "0.png").rename(folder / "train" / HOSTILE / f"{HOSTILE}'\"&\n.png")
    lone = os.fsencode(folder / "train" / HOSTILE) + b"/\xff\xfe.png"  # no valid UTF-8
    Path(os.fsdecode(lone)).write_bytes(next((folder / "train" / HOSTILE).iterdir()).read_bytes())
    run = make_run(tmp_path, "--dataset", "folder", "--dataset_path", str(folder), "--img_size", "32", *TINY)
    with open_page(run, tmp_path / "edits.sqlite") as page:
        wait_for(lambda: page.get("queue").json()["ready"] == 1)
        answer = page.get("queue", order="name")
        ids = {item["id"] for item in answer.json()["items"]}
        assert f"train/{HOSTILE}/{HOSTILE}'\"&\n.png" in ids and len(ids) == 3
        assert answer.headers["content-type"] == "application/json" and answer.content.isascii()
        assert HOSTILE in page.get("session").json()["classes"]
        for k in range(3):
            assert page.get(f"images/{k}/thumbnail").status_code == page.get(f"images/{k}").status_code == 200
            refused = "\udcff" in page.session.part.ids[k]  # a store of text cannot hold it
            assert page.save(k, author=HOSTILE).status_code == (400 if refused else 200)


def test_damaged_images_are_told_and_do_no_harm(tmp_path, capfd):
    folder = make_images(tmp_path / "images", [(20, 20)] * 2)
    run = make_run(tmp_path, "--dataset", "folder", "--dataset_path", str(folder), "--img_size", "32", *TINY)
    (folder / "train/a/0.png").write_bytes(b"no image")
    page = open_page(run, tmp_path / "edits.sqlite")
    (folder / "train/b/1.png").unlink()
    with page:
        wait_for(lambda: page.get("queue").json()["ready"] == 1)
        unknown = [item["k"] for item in items(page, order="name") if item["prediction"] is None]
        assert unknown == [0, 3]
        for k in (0, 3):
            for what in ("", "/picture", "/thumbnail", "/attention"):
                answer = page.get(f"images/{k}{what}")
                assert answer.status_code == 424 and str(tmp_path) not in answer.text
            assert page.post(f"images/{k}/predict", page.body()).status_code == 424
        assert page.save(3).status_code == 424 and page.save(1).status_code == 200
    assert str(folder / "train/a/0.png") in capfd.readouterr().err


def test_behind_a_path_prefix(page):
    prefixed = Page(app_of(page.session, root_path="/some/prefix/"))  # not started: the session runs already
    added = prefixed.http.get("/some/prefix")
    assert (added.status_code, added.headers["location"]) == (307, "prefix/")
    for path in ("/api/session", "/some/prefix/api/session"):
        assert prefixed.http.get(path).status_code == 200
        assert prefixed.http.get(path, headers={"Authorization": ""}).status_code == 401
    index = page.http.get("/")
    assert index.status_code == 200 and prefixed.http.get("/some/prefix/").content == index.content
    assert not re.search(r"""(src|href)=["']?(/|https?:)""", index.text)  # relative addresses only


def test_show_gives_a_frame_and_starts_anew(run, tmp_path):
    def fetch(frame, path):
        address, token = frame.src.split("#token=")
        request = urllib.request.Request(address + path, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request) as answer:
            return answer.headers["content-security-policy"], answer.read()

    first = show(str(run.folder), edits=tmp_path / "edits.sqlite", split="val")
    csp, body = fetch(first, "api/session")
    assert json.loads(body)["images"] == 130 and 'height="900"' in first._repr_html_()
    assert "frame-ancestors 'self' http://127.0.0.1:* http://localhost:*" in csp
    second = show(str(run.folder), edits=tmp_path / "edits.sqlite", split="val", address="/proxy/{port}/")
    port = re.fullmatch(r"/proxy/(\d+)/#token=[\w-]{43}", second.src)[1]
    with pytest.raises(urllib.error.URLError):
        fetch(first, "api/session")  # the store has one editor
    second.src = second.src.replace(f"/proxy/{port}/", f"http://127.0.0.1:{port}/")
    assert fetch(second, "api/session")[1] == body
    ((server, thread),) = server_module._shown.values()
    server.should_exit = True
    thread.join()
    with EditStore(tmp_path / "edits.sqlite"):
        pass  # free again


# ---------------------------------------------------------------- the process


class Process:
    """src/edit_attention.py on a run, on an interpreter without IPython."""

    def __init__(self, run, edits, tmp_path, *args):
        (tmp_path / "IPython.py").write_text("raise ImportError('there is no IPython here')")
        command = [sys.executable, str(ROOT / "src/edit_attention.py"), "--run", str(run.folder)]
        command += ["--edits", str(edits), "--split", "val", "--no_browser", *args]
        env = os.environ | {"PYTHONPATH": str(tmp_path)}
        self.errors = tmp_path / "stderr"
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.errors.open("w"), text=True, env=env
        )
        self.line = self.process.stdout.readline()
        found = re.fullmatch(r"Editor: (http://127\.0\.0\.1:(\d+))/#token=([\w-]+)\n", self.line)
        assert found, self.line + self.errors.read_text()
        self.address, self.port, self.token = found.groups()

    def __call__(self, path, body=None, **headers):
        headers = {"Authorization": f"Bearer {self.token}", **headers}
        if body is not None:
            headers |= {"Origin": self.address, "Content-Type": BINARY}
        request = urllib.request.Request(f"{self.address}/api/{path}", body, headers)
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())

    def end(self, how):
        self.process.send_signal(how)
        rest = self.process.stdout.read()
        return self.process.wait(60), rest


@pytest.fixture
def start():
    """Starts `Process`es, none of which outlives the test."""
    started = []

    def start(*args):
        started.append(Process(*args))
        return started[-1]

    yield start
    for editor in started:
        editor.process.kill()


def test_an_acknowledged_save_survives_a_kill(run, tmp_path, start):
    edits = tmp_path / "edits.sqlite"
    editor = start(run, edits, tmp_path, "--port", "0", "--author", "mika")
    assert len(editor("queue?order=name")["items"]) == 100  # it answers as soon as it says so
    body = np.zeros(36, "<f4").tobytes() + b"\1" * 36
    saved = editor("images/5/edit?base=none&client_id=0123456789abcdef", body)
    note = urllib.parse.quote("森" * 2000)  # the longest line a page sends
    longest = editor(f"images/6/edit?base=none&client_id=0123456789abcdee&note={note}", body)
    assert longest["revision"] == saved["revision"] + 1
    address = re.escape(editor.address)
    with pytest.raises(UserError, match=rf"already open for writing by the editor at {address}/"):
        Server(EditorOptions(str(run.folder), str(edits), port=0))
    with pytest.raises(UserError, match=rf"port {editor.port} of 127.0.0.1 cannot be used.*--port"):
        Server(EditorOptions(str(run.folder), str(tmp_path / "other.sqlite"), port=int(editor.port)))
    assert not (tmp_path / "other.sqlite").exists()
    editor.end(signal.SIGKILL)

    again = start(run, edits, tmp_path, "--port", editor.port)
    assert again.port == editor.port and again.token != editor.token
    (revision,) = again("images/5/history")["revisions"]
    assert (revision["revision"], revision["created"]) == (saved["revision"], saved["created"])
    with pytest.raises(urllib.error.HTTPError, match="401"):
        again("session", Authorization=f"Bearer {editor.token}")
    repeated = again("images/5/edit?base=none&client_id=0123456789abcdef&author=mika", body)
    assert repeated["revision"] == saved["revision"]  # the page sends what was not answered once more
    code, rest = again.end(signal.SIGINT)
    assert code == 0 and f"ssh -L {again.port}:127.0.0.1:{again.port} " in rest and str(edits) in rest
    assert again.errors.read_text() == ""
    assert not edits.with_name("edits.sqlite-wal").exists()  # one plain file again


def test_bad_options_are_sentences(run, tmp_path):
    for options, sentence in (
        (dict(run=str(tmp_path)), "is not a run"),
        (dict(split="holdout"), "no part 'holdout'.*test_train_like"),
        (dict(port=70000), "--port is 70000"),
        (dict(author="propagated"), "--author"),
        (dict(root_path="/a{b}"), "--root_path"),
        (dict(allow_host=["http://example.org"]), "--allow_host"),
        (dict(masks=str(tmp_path / "none")), "there is no folder"),
        (dict(host="no.such.host.invalid"), "cannot be used"),
        (dict(edits=str(tmp_path)), "check the path"),
    ):
        good = {"run": str(run.folder), "edits": str(tmp_path / "edits.sqlite"), "port": 0}
        with pytest.raises(UserError, match=sentence):
            Server(EditorOptions(**good | options))

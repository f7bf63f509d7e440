"""What the page reads from the server: the session, the queue, images and maps; and predictions."""

import io
import itertools
import json
import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.editing import (
    HOSTILE,
    SMALL,
    all_predicted,
    items,
    make_images,
    make_run,
    open_page,
    wait_for,
)
from PIL import Image

from sigmoid_vit import AttentionEdit, UserError, decision_map
from sigmoid_vit.edits.exchange import read_export
from sigmoid_vit.edits.next_images import EDIT_NEXT, report_file
from sigmoid_vit.edits.store import EditStore


def test_the_session_says_what_the_page_needs(page, run):
    facts = page.get("session").json()
    assert facts["grid"] == [6, 6]
    assert (facts["layers"], facts["heads"]) == (3, 2)
    assert facts["decision_at_once"]
    assert facts["classes"] == run.classes
    assert facts["images"] == 130
    assert facts["masks"]
    assert (facts["run"], facts["split"]) == ("run", "val")
    assert (facts["prefix_tokens"], facts["class_token"]) == (1, True)
    assert facts["author"]
    assert "mixed" in facts["orders"]
    assert facts["scope"] == {"layers": "all", "heads": None, "queries": "all"}


def test_the_training_command_survives_a_shell(tmp_path):
    run = make_run(tmp_path / "it's a $(run)")
    with open_page(run, tmp_path / "my edits;.sqlite") as page:
        command = page.get("session").json()["command"]
    instead = """sh -c 'printf "%s|%s|%s" "$FIRST_STEP" "$EDITS" "$PROPAGATE"'"""
    shown = command.replace("bash run_vit_hitl_training.sh", instead)
    printed = subprocess.run(["sh", "-c", shown], capture_output=True, text=True).stdout
    assert printed == f"{run.folder}|{tmp_path / 'my edits;.sqlite'}|true"


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
    assert len(mixed) == 130
    assert sorted(mixed) == sorted(labels.tolist())
    by_class = items(page, order="class", limit=1000)
    assert [item["label"] for item in by_class] == sorted(labels.tolist())


def test_what_teaches_most_comes_first_until_it_is_edited(run, tmp_path):
    store = tmp_path / "edits.sqlite"
    with open_page(run, store) as page:
        assert "teach" not in page.get("session").json()["orders"]
        names = [item["id"] for item in items(page, order="mixed", limit=2)]
    report_file(store).write_text(json.dumps({EDIT_NEXT: [*names[::-1], "of/another part"]}))
    with open_page(run, store) as page:
        assert page.get("session").json()["orders"][0] == "teach"
        found = items(page, order="teach")
        assert [item["id"] for item in found] == names[::-1]
        for item in found:
            page.save(item["k"])
    with open_page(run, store) as page:
        assert page.get("session").json()["orders"][0] == "errors"
    report_file(store).write_text("{")
    with pytest.raises(UserError, match=r"propagation.json cannot be read: .*; remove it"):
        open_page(run, store).__enter__()


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
    monkeypatch.setattr("sigmoid_vit.editor.part_predictions.PartPredictions.compute", lambda *_: None)
    with open_page(run, tmp_path / "edits.sqlite") as page:
        response = page.get("queue", order="uncertain").json()
        assert response["ready"] == 0
        assert response["total"] == 1167
        assert len(response["items"]) == 100
        assert {item["prediction"] for item in response["items"]} == {None}
        assert page.get("queue", order="errors").json()["total"] == 0


def test_describing_an_image(page):
    response = page.get("images/7").json()
    part = page.session.part
    assert (response["k"], response["id"], response["label"]) == (7, part.ids[7], part.labels[7])
    assert response["size"] == [24, 24]
    assert (response["newest"], response["edit"], response["status"]) == (None, None, "todo")
    p = page.session.predictor.unedited(7)
    assert [top["class"] for top in response["top"][:5]] == p.argsort(descending=True)[:5].tolist()
    assert response["top"][0]["p"] == p.max()
    assert all(row["p"] == row["before"] == p[row["class"]] for row in response["top"])
    assert part.labels[7] in {row["class"] for row in response["top"]}
    assert response["of_another_image"] is None
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
    run = make_run(tmp_path, "--dataset", "folder", "--dataset_path", str(folder), *SMALL)
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


def test_attention_maps(page):
    predictor = page.session.predictor
    for params, expected in (
        ({}, predictor.attention(3, 2, None, "cls")),
        (dict(layer=1, head=0, query=9), predictor.attention(3, 1, 0, 9)),
        (dict(view="rollout"), predictor.rollout(3, "cls")),
        (dict(view="rollout", query=9), predictor.rollout(3, 9)),
    ):
        got = np.frombuffer(page.get("images/3/attention", **params).content, "<f4")
        assert (got == expected.flatten().numpy()).all()
        assert 0 <= got.min() < got.max() <= 1


def test_decision_maps(page):
    s = page.session
    image = s.predictor.transform(s.images.pixels(3)[None], torch.zeros(1))
    true = int(s.part.labels[3])
    for params, classes in (
        ({}, (None, None)),
        (dict(explained="predicted"), (None, None)),
        (dict(explained="true"), (true, None)),
        (dict(explained="against_true"), (None, true)),
    ):
        got = np.frombuffer(page.get("images/3/decision", **params).content, "<f4")
        expected = decision_map(s.predictor.model, image, *classes).flatten().numpy()
        np.testing.assert_allclose(got, expected, atol=1e-5, err_msg=str(params))


@pytest.mark.parametrize("scope", ["", "layers=last", "layers=0&heads=1", "layers=0,2&queries=cls&heads=0,1"])
def test_a_prediction_follows_the_stroke_and_its_scope(page, scope):
    given = dict(pair.split("=") for pair in scope.split("&") if pair)
    numbers = {name: [int(i) for i in value.split(",")] for name, value in given.items() if value[0] in "012"}
    response = page.post("images/2/predict", page.body(1.0, [(1, 1), (4, 2)]), **given).json()
    value, edited = torch.zeros(1, 6, 6), torch.zeros(1, 6, 6, dtype=torch.bool)
    for cell in ((0, 1, 1), (0, 4, 2)):
        value[cell], edited[cell] = 1, True
    edit = AttentionEdit(value, edited, **{**given, **numbers})
    p, before = page.session.predictor.edited(2, edit), page.session.predictor.unedited(2)
    assert not torch.equal(p, before)
    ranked = p.argsort(descending=True).tolist()
    others = {int(page.session.part.labels[2]), int(before.argmax())} - set(ranked[:5])
    rows = ranked[:5] + sorted(others, key=ranked.index)
    assert response == {"top": [{"class": i, "p": p[i], "before": before[i]} for i in rows]}
    assert page.session.edits.store.history() == []  # nothing was stored


def test_a_grid_without_edited_cells_predicts_as_the_network_does(page):
    unedited = page.get("images/2").json()
    response = page.post("images/2/predict", page.body(0.5, [])).json()
    assert response == {"top": unedited["top"]}


def test_the_export_is_what_other_stores_take(page, tmp_path):
    page.save(4, 0.3, author="mika")
    response = page.get("export")
    assert response.headers["content-type"] == "application/zip"
    zipfile.ZipFile(io.BytesIO(response.content)).extractall(tmp_path / "export")
    with EditStore(tmp_path / "copy.sqlite") as copy:
        (edit,) = copy.save_many(read_export(tmp_path / "export"))
        assert edit == page.session.edits.store.current(page.session.part.ids[4])


def test_hostile_names_travel_as_json(tmp_path):
    folder = make_images(tmp_path / "images", [(20, 20)], classes=(HOSTILE, "b\x07\u202e"))
    (folder / "train" / HOSTILE / "0.png").rename(folder / "train" / HOSTILE / f"{HOSTILE}'\"&\n.png")
    lone = os.fsencode(folder / "train" / HOSTILE) + b"/\xff\xfe.png"  # no valid UTF-8
    Path(os.fsdecode(lone)).write_bytes(next((folder / "train" / HOSTILE).iterdir()).read_bytes())
    run = make_run(tmp_path, "--dataset", "folder", "--dataset_path", str(folder), *SMALL)
    with open_page(run, tmp_path / "edits.sqlite") as page:
        wait_for(lambda: page.get("queue").json()["ready"] == 1)
        response = page.get("queue", order="name")
        ids = {item["id"] for item in response.json()["items"]}
        assert f"train/{HOSTILE}/{HOSTILE}'\"&\n.png" in ids
        assert len(ids) == 3
        assert response.headers["content-type"] == "application/json"
        assert response.content.isascii()
        assert HOSTILE in page.get("session").json()["classes"]
        for k in range(3):
            assert page.get(f"images/{k}/thumbnail").status_code == page.get(f"images/{k}").status_code == 200
            assert page.save(k, author=HOSTILE).status_code == 200
        assert rf"train/{HOSTILE}/\xff\xfe.png" in ids


def test_damaged_images_are_refused_and_do_no_harm(tmp_path, capfd):
    folder = make_images(tmp_path / "images", [(20, 20)] * 2)
    run = make_run(tmp_path, "--dataset", "folder", "--dataset_path", str(folder), *SMALL)
    (folder / "train/a/0.png").write_bytes(b"no image")
    page = open_page(run, tmp_path / "edits.sqlite")
    (folder / "train/b/1.png").unlink()
    with page:
        wait_for(lambda: page.get("queue").json()["ready"] == 1)
        unknown = [item["k"] for item in items(page, order="name") if item["prediction"] is None]
        assert unknown == [0, 3]
        for k in (0, 3):
            for what in ("", "/picture", "/thumbnail", "/attention"):
                response = page.get(f"images/{k}{what}")
                assert response.status_code == 424
                assert str(tmp_path) not in response.text
            assert page.post(f"images/{k}/predict", page.body()).status_code == 424
        assert page.save(3).status_code == 424
        assert page.save(1).status_code == 200
    assert str(folder / "train/a/0.png") in capfd.readouterr().err

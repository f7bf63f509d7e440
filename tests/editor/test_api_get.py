"""What the page reads from the server: the session, the queue, images and maps; and predictions."""

import io
import itertools
import json
import os
import subprocess
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
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
from PIL import Image, ImageFile

from sigmoid_vit import AttentionEdit, UserError, decision_map
from sigmoid_vit.data.images import upright_size
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


def test_filters_and_items_of_the_queue(page):
    all_predicted(page)
    page.save(4)
    page.skip(5)
    whole = items(page, order="name", limit=1000)
    listed = page.get("queue", order="name", limit=20).json()
    assert listed["items"] == whole[:20]
    assert listed["images"] == [item["k"] for item in whole]
    done = {4: "d", 5: "s"}
    assert listed["statuses"] == "".join(done.get(k, "t") for k in listed["images"])
    some = [whole[place] for place in (129, 3, 60)]
    found = page.get("items", images=",".join(str(item["k"]) for item in some))
    assert found.json() == {"items": some}
    threes = page.get("queue", **{"order": "name", "class": 3, "limit": 1}).json()
    expected = [item["k"] for item in whole if item["label"] == 3]
    assert threes["images"] == expected
    assert threes["total"] == len(expected) > len(threes["items"]) == 1
    found = items(page, order="name", search="RAIN/11", limit=1000)
    assert found == [item for item in whole if "train/11" in item["id"]] != []


def test_a_list_of_50_000_images_is_compact(page):
    n = 50_000
    page.session.queue._by_name = np.arange(n) % len(page.session.part)
    listed = page.get("queue", order="name")
    assert listed.json()["total"] == len(listed.json()["statuses"]) == n
    assert len(listed.json()["items"]) == 100
    assert len(listed.content) < 6 * n


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


def test_a_close_up_has_the_pixels_of_the_file(tmp_path):
    folder = make_images(tmp_path / "images", [(1200, 800)])
    run = make_run(tmp_path, "--dataset", "folder", "--dataset_path", str(folder), *SMALL)
    whole = Image.open(folder / "train/a/0.png")
    with open_page(run, tmp_path / "edits.sqlite") as page:

        def asked(left, top, right, bottom, **facts):
            return page.get("images/0/close_up", left=left, top=top, right=right, bottom=bottom, **facts)

        found = Image.open(io.BytesIO(asked(700, 300, 1100, 350).content))
        assert np.array_equal(found, whole.crop((700, 300, 1100, 350)))
        assert Image.open(io.BytesIO(asked(0, 0, 1200, 800, shrink=4).content)).size == (300, 200)
        for box in ((0, 0, 1201, 800), (5, 5, 5, 9), (9, 9, 3, 12)):
            assert "must lie in the image of 1200 x 800 pixels" in asked(*box).json()["error"]
        assert page.get("images/0/close_up").status_code == 400
        page.session.images.shown_size = lambda i: (9000, 9000)
        assert "at most 4000000 pixels" in asked(0, 0, 2001, 2000).json()["error"]


def test_a_very_long_image_has_a_thumbnail(tmp_path):
    folder = make_images(tmp_path / "images", [(3000, 3), (3, 3000)])
    run = make_run(tmp_path, "--dataset", "folder", "--dataset_path", str(folder), *SMALL)
    with open_page(run, tmp_path / "edits.sqlite") as page:
        small = [page.get(f"images/{k}/thumbnail").content for k in range(2)]
        assert [Image.open(io.BytesIO(each)).size for each in small] == [(96, 1), (1, 96)]


def test_large_jpegs_are_decoded_small_and_one_at_a_time(tmp_path, monkeypatch):
    folder = make_images(tmp_path / "images", [(4000, 3000)], suffix=".jpg")
    run = make_run(tmp_path, "--dataset", "folder", "--dataset_path", str(folder), *SMALL)
    decoded, now, threads, load = [], [], set(), ImageFile.ImageFile.load

    def watched(image):
        if not image.tile:  # it is decoded already
            return load(image)
        now.append(image)
        decoded.append((image.size, len(now)))
        threads.add(threading.get_ident())
        time.sleep(0.05)
        pixels = load(image)
        now.remove(image)
        return pixels

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    with open_page(run, tmp_path / "edits.sqlite") as page, ThreadPoolExecutor(4) as pool:
        images = page.session.images
        asked = [pool.submit(each, i) for i in (0, 1) for each in (images.picture, images.thumbnail)]
    sizes = [Image.open(io.BytesIO(each.result())).size for each in asked]
    assert sizes == [(1024, 768), (96, 72)] * 2
    assert len(threads) == 1  # each keeps the memory of a large one
    assert sorted(decoded)[: len(asked)] == [((500, 375), 1)] * 2 + [((2000, 1500), 1)] * 2


def test_the_headers_of_all_files_are_read_once(tmp_path, monkeypatch):
    folder = make_images(tmp_path / "images", [(20, 20)] * 3)
    run = make_run(tmp_path, "--dataset", "folder", "--dataset_path", str(folder), *SMALL)
    read = []
    module = "sigmoid_vit.editor.part_images"
    monkeypatch.setattr(f"{module}.upright_size", lambda path: read.append(path) or upright_size(path))

    def size():
        read.clear()
        with open_page(run, tmp_path / "edits.sqlite") as page:
            return page.session.images.stored_size, len(read)

    assert size() == ((20, 20), 6)
    assert size() == ((20, 20), 0)
    Image.new("RGB", (30, 20)).save(folder / "train/a/0.png")
    assert size() == ((32, 32), 2)  # the second one differs from the first


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
    true, predicted = int(s.part.labels[3]), int(s.predictor.unedited(3).argmax())
    for params, classes in (
        ({}, (None, None)),
        (dict(explained="predicted"), (None, None)),
        (dict(explained="true"), (true, None)),
        (dict(against="true"), (None, true)),
        (dict(explained=7), (7, None)),
        (dict(explained=7, against=2), (7, 2)),
        (dict(explained=7, against="predicted"), (7, predicted)),
        (dict(against=9), (None, 9)),
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


def test_the_outline_of_a_mask(page, tmp_path):
    """Its lines hold the ink of the digit: a line of pixels crosses them at each border."""
    lines = np.frombuffer(page.get("images/7/outline").content, "<f4").reshape(-1, 4)
    ink = page.session.part.mask(7) >= 0.5
    x0, y0, x1, y1 = lines.T * 24
    for row in range(24):
        crossed = np.sort(x0[(x0 == x1) & (y0 < row + 0.5) & (row + 0.5 < y1)])
        borders = np.flatnonzero(np.diff(np.pad(ink[row], 1).astype(int)))
        assert crossed == pytest.approx(borders)
    page.session.images.mask = None
    assert page.get("images/7/outline").content == b""


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

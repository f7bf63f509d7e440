"""Edits leave a store and come back without loss; half an export, or a damaged one, is never imported."""

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers.edits import edits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from sigmoid_vit.edits.exchange import export_edits, read_export, rle_encode
from sigmoid_vit.edits.store import EditStore, StoredEdit
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import sha256

FORK = multiprocessing.get_context("fork")
MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))


def an_edit(image_id, value, edited=None, **changes):
    value = np.array(value, np.float32)
    edited = np.ones(value.shape, bool) if edited is None else np.array(edited, bool)
    return StoredEdit(image_id, "0" * 64, value, edited, "mika", **changes)


@pytest.fixture
def store(tmp_path):
    """Three images: edited twice, edited per head, edited and deleted."""
    with EditStore(tmp_path / "edits.sqlite") as store:
        store.save(an_edit("train/ねこ.png", [[0.1, 0.2]]))
        store.save(an_edit("train/ねこ.png", [[0, 0.25], [0.5, 1]], [[1, 1], [1, 0]], layers=[0, 3]))
        store.save(an_edit("b", [[[0.1, 0.2]], [[0.3, 0.9]]], note="two heads\nand two lines", heads=[1]))
        store.save(an_edit("c", [[0.5]]))
        store.delete("c", "noor")
        yield store


@pytest.fixture
def other(tmp_path):
    with EditStore(tmp_path / "other.sqlite") as other:
        yield other


def lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_whole_history_comes_back_exactly(store, other, tmp_path):
    assert export_edits(store, tmp_path / "export", history=True) == store.history()
    assert other.save_many(read_export(tmp_path / "export")) == store.history() == other.history()


def test_current_edits_come_back_in_all_they_say(store, other, tmp_path):
    other.save(an_edit("b", [[0.5]]))
    export_edits(store, tmp_path / "export")
    other.save_many(read_export(tmp_path / "export"))
    exported, imported = store.current_all(), other.current_all()
    assert list(imported) == ["b", "train/ねこ.png"]
    for image_id, edit in imported.items():
        assert replace(exported[image_id], revision=edit.revision, base=edit.base) == edit
    assert len(other.history("b")) == 2
    assert imported["b"].base == 1


def test_importing_twice_adds_nothing(store, other, tmp_path):
    export_edits(store, tmp_path / "export")
    before = other.save_many(read_export(tmp_path / "export"))
    assert other.save_many(read_export(tmp_path / "export")) == before == other.history()
    assert store.save_many(read_export(tmp_path / "export")) == export_edits(store, tmp_path / "again")
    assert len(store.history()) == 5


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(edits(), max_size=3))
def test_any_edits_come_back(tmp_path, some):
    for path in tmp_path.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with EditStore(tmp_path / "a.sqlite") as a, EditStore(tmp_path / "b.sqlite") as b:
        a.save_many(some)
        export_edits(a, tmp_path / "export", history=True)
        b.save_many(read_export(tmp_path / "export"))
        assert a.history() == b.history()


def test_the_index_is_canonical(store, tmp_path):
    export_edits(store, tmp_path / "one")
    export_edits(store, tmp_path / "two")
    for name in ("index.jsonl", "edits.safetensors", "export.json", "masks.json", "metadata.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    rows = lines(tmp_path / "one" / "index.jsonl")
    assert [list(row) == sorted(row) for row in rows] == [True, True]
    assert rows[0]["layers"] == [0, 3]
    assert rows[0]["image_id"] == "train/ねこ.png"
    facts = json.loads((tmp_path / "one" / "export.json").read_text())
    assert (facts["edits"], facts["history"], facts["threshold"]) == (2, False, 0.5)


def test_other_programs_get_maps_and_masks(store, tmp_path):
    folder = tmp_path / "export"
    export_edits(store, folder, threshold=0.25)
    rows = lines(folder / "metadata.jsonl")
    assert [next(iter(row)) for row in rows] == ["file_name"] * 2
    assert {type(row["layers"]) for row in rows} == {str}  # one type per column
    assert sorted(path.name for path in (folder / "maps").iterdir()) == ["00000002.png", "00000003.png"]
    with Image.open(folder / rows[0]["file_name"]) as image:
        assert image.mode == "I;16"
        assert np.asarray(image).tolist() == [[0, 16384], [32768, 65535]]
    with Image.open(folder / rows[0]["edited_file_name"]) as image:
        assert np.asarray(image).tolist() == [[255, 255], [255, 0]]
    with Image.open(folder / rows[1]["file_name"]) as image:  # heads below each other
        assert np.round(np.asarray(image) / 65535, 4).tolist() == [[0.1, 0.2], [0.3, 0.9]]


def test_masks_follow_coco(store, tmp_path):
    export_edits(store, tmp_path / "export", threshold=0.25)
    coco = json.loads((tmp_path / "export" / "masks.json").read_text())
    assert coco["info"]["threshold"] == 0.25
    assert [category["name"] for category in coco["categories"]] == ["edited", "attended"]
    assert coco["images"][0] == {
        "id": 2,
        "file_name": "maps/00000002.png",
        "image": "train/ねこ.png",
        "height": 2,
        "width": 2,
    }
    edited, attended = coco["annotations"][:2]
    assert edited["segmentation"] == {"size": [2, 2], "counts": [0, 3, 1]}
    assert attended["segmentation"] == {"size": [2, 2], "counts": [1, 2, 1]}  # too low, two cells, not edited
    assert (attended["area"], attended["bbox"], attended["iscrowd"]) == (2, [0, 0, 2, 2], 1)
    assert (attended["image_id"], attended["category_id"]) == (2, 2)


def test_run_lengths_go_down_the_columns():
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)
    assert rle_encode(mask) == {"size": [2, 3], "counts": [2, 1, 1, 2]}
    assert rle_encode(~mask)["counts"] == [0, 2, 1, 1, 2]


def decoded(rle):
    """COCO's uncompressed run lengths as the mask, bool [h, w]: down the columns, zeros first."""
    flat = np.repeat(np.arange(len(rle["counts"])) % 2 == 1, rle["counts"])
    return flat.reshape(rle["size"], order="F")


@given(MASKS)
def test_run_lengths_give_the_mask_back(mask):
    rle = rle_encode(mask)
    assert json.loads(json.dumps(rle)) == rle
    assert np.array_equal(decoded(rle), mask)
    assert min(rle["counts"][1:], default=1) > 0


def test_the_masks_are_those_of_the_edits(store, tmp_path):
    edits = {edit.revision: edit for edit in export_edits(store, tmp_path / "export", threshold=0.25)}
    coco = json.loads((tmp_path / "export" / "masks.json").read_text())
    assert len(coco["annotations"]) == 2 * len(edits)
    for annotation in coco["annotations"]:
        edit, mask = edits[annotation["image_id"]], decoded(annotation["segmentation"])
        attended = edit.edited & (edit.value >= 0.25)
        expected = edit.edited if annotation["category_id"] == 1 else attended
        assert np.array_equal(mask, expected.reshape(-1, edit.value.shape[-1]))  # heads below each other
        assert annotation["area"] == mask.sum()


def test_an_empty_store_is_an_empty_export(other, tmp_path):
    assert export_edits(other, tmp_path / "export") == []
    assert other.save_many(read_export(tmp_path / "export")) == []


# half, damaged and foreign folders


def refusal(store, folder):
    """Why the folder is not imported; the store stays as it was."""
    before = store.history()
    with pytest.raises(UserError) as refused:
        store.save_many(read_export(folder))
    assert store.history() == before
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_folder_with_files_is_not_written_to(store, tmp_path):
    with pytest.raises(UserError, match="not empty"):
        export_edits(store, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot export"):
        export_edits(store, tmp_path / "file")
    with pytest.raises(UserError, match=r"threshold nan must lie in \[0, 1\]"):
        export_edits(store, tmp_path / "export", threshold=float("nan"))


def test_damage_is_named(store, other, tmp_path):
    for name in ("index.jsonl", "edits.safetensors"):
        folder = tmp_path / name.split(".")[0]
        export_edits(store, folder)
        content = (folder / name).read_bytes()
        for damaged in (content[:-1], b"", bytes([content[0], content[1] ^ 1]) + content[2:]):
            (folder / name).write_bytes(damaged)
            assert f"{name} differs from what was exported" in refusal(other, folder)
        (folder / name).unlink()
        assert name in refusal(other, folder)


def test_other_folders_are_refused(store, other, tmp_path):
    assert "it has no export.json" in refusal(other, tmp_path / "none")
    folder = tmp_path / "export"
    export_edits(store, folder)
    facts = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(facts | {"version": 2}))
    assert "update sigmoid_vit" in refusal(other, folder)
    for text in ("", "[]", "{}", json.dumps(facts | {"sha256": {}})):
        (folder / "export.json").write_text(text)
        assert "no whole export" in refusal(other, folder)


@pytest.mark.parametrize("change", [{"unknown": 1}, {"revision": 99}, {"author": ""}, {"created": 5}])
def test_an_index_made_elsewhere_is_checked(store, other, tmp_path, change):
    folder = tmp_path / "export"
    export_edits(store, folder)
    rows = lines(folder / "index.jsonl")
    rows[-1] |= change
    (folder / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    facts = json.loads((folder / "export.json").read_text())
    facts["sha256"]["index.jsonl"] = sha256(folder / "index.jsonl")
    (folder / "export.json").write_text(json.dumps(facts))
    assert refusal(other, folder)


def export_until_killed(path, folder, opened):
    """Export in a process that kills itself where it would open or rename its nth file."""
    steps = itertools.count()

    def kill(event, _):
        if event in ("open", "os.rename") and next(steps) == opened:
            os.kill(os.getpid(), signal.SIGKILL)

    with EditStore(path, readonly=True) as store:
        sys.addaudithook(kill)
        export_edits(store, folder)


def test_a_killed_export_is_whole_or_refused(store, other, tmp_path):
    for opened in itertools.count():
        folder = tmp_path / f"export {opened}"
        process = FORK.Process(target=export_until_killed, args=(store.path, folder, opened))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        if not (folder / "export.json").exists():
            assert "no whole export" in refusal(other, folder)
        else:
            assert len(other.save_many(read_export(folder))) == 2
    assert opened > 15
    assert len(other.save_many(read_export(folder))) == 2

"""Human attention becomes edits: the right cells of the right images, and none where nobody said a thing."""

import hashlib
import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.cub import FILES, SIZE, TRAIN, seg
from helpers.images import make_folder
from helpers.marked_images import H, W, block, run_import, save, stored
from helpers.runs import untrained_run
from PIL import Image

from sigmoid_vit import UserError
from sigmoid_vit.annotations.cells import cell_means
from sigmoid_vit.annotations.import_options import ImportOptions
from sigmoid_vit.annotations.importing import import_edits
from sigmoid_vit.annotations.mask_files import read_map
from sigmoid_vit.data import ink_grid, load_data
from sigmoid_vit.edits.exchange import export_edits
from sigmoid_vit.edits.maps import load_edits
from sigmoid_vit.edits.store import EditStore, StoredEdit

ROOT = Path(__file__).parents[2]
HALF = np.zeros((2, 2), np.float32), np.eye(2) > 0  # value and edited


# masks


def test_edits_of_another_data_set_in_the_store_are_said(cats_and_dogs):
    masks = cats_and_dogs.parent / "masks"
    save(masks / "train/cat/a.png", block(0, 8, 0, 12))
    run_import(cats_and_dogs, "masks", masks)
    with EditStore(cats_and_dogs / "edits.sqlite") as edits:
        edit = edits.current_all()["train/cat/a.jpg"]
        edits.save(replace(edit, image_id="train/7", client_id=None, created=None))
    account, _ = run_import(cats_and_dogs, "masks", masks)
    assert account.foreign == ["train/7"]
    assert "images that this data set does not have: " in account.text()


def test_masks_become_edits_and_all_else_is_accounted_for(cats_and_dogs):
    masks = cats_and_dogs.parent / "masks"
    save(masks / "train/cat/a.png", block(0, 8, 0, 12))
    save(masks / "train/cat/b.png", np.zeros((H, W), np.uint8))  # empty
    save(masks / "dog/a_mask.png", block(0, 80, 0, 120, (160, 240)))  # another size, without train/
    save(masks / "train/dog/b.png", block(0, 1, 0, 1))  # a pixel: no cell is covered
    save(masks / "train/dog/c.png", np.full((H, W), 255, np.uint8))  # everything
    save(masks / "val/dog/v.png", block(0, 8, 0, 12))  # known, but not in this part
    save(masks / "train/dog/z.png", block(0, 8, 0, 12))
    account, edits = run_import(cats_and_dogs, "masks", masks, author="yui")
    assert list(edits) == ["train/cat/a.jpg", "train/dog/a.jpg"] == sorted(account.edited)
    for image_id, edit in edits.items():
        assert np.array_equal(edit.edited, ~block(0, 2, 0, 3, (4, 6), True, bool))
        assert (edit.value == 0).all()
        assert edit.image_sha256 == hashlib.sha256((cats_and_dogs / image_id).read_bytes()).hexdigest()
        assert (edit.author, edit.layers, edit.heads, edit.queries) == ("yui", "all", None, "all")
        assert edit.note == "from masks, background, covered 0.5"
        assert edit.weights_sha256 == ""
    assert account.without == {
        "missing": ["train/cat/c.jpg"],
        "empty": ["train/cat/b.jpg"],
        "small": ["train/dog/b.jpg"],
        "full": ["train/dog/c.jpg"],
        "bad": [],
    }
    assert account.resized == ["train/dog/a.jpg"]
    assert account.unknown == ["train/dog/z"]
    text = account.text()
    for words in (
        "train: 6 images, 2 of them can be edited",
        "author yui, grid 4x6: 2 (train/cat/a.jpg, train/dog/a.jpg)",
        "not edited, without a mask: 1 (train/cat/c.jpg)",
        "stretched over the whole of it: 1 (train/dog/a.jpg)",
        "no known image (test parts stay closed): 1 (train/dog/z)",
    ):
        assert words in text, text

    again, _ = run_import(cats_and_dogs, "masks", masks, mask_edit="both", covered=0)
    assert sorted(again.replaced) == list(edits)
    assert len(again.edited) == 4
    assert "in place of an earlier edit, which stays in the history: 2 (" in again.text()
    empty, _ = run_import(cats_and_dogs, "masks", masks, mask_edit="both", missing=1)
    assert empty.without_cells == empty.edited
    assert "without a cell" in empty.text()


def test_only_the_named_part_is_edited(cats_and_dogs):
    save(cats_and_dogs.parent / "masks/val/cat/v.png", block(0, 8, 0, 12))
    _, edits = run_import(cats_and_dogs, "masks", cats_and_dogs.parent / "masks", split="val")
    assert list(edits) == ["val/cat/v.jpg"]


def test_masks_beside_the_images(cats_and_dogs):
    save(cats_and_dogs / "train/cat/a_mask.png", block(0, 8, 0, 12))
    save(cats_and_dogs / "train/cat/b.png", block(0, 8, 0, 12))
    for files in ([], [cats_and_dogs]):
        account, edits = run_import(cats_and_dogs, "masks", *files, object_value=0.7, mask_edit="object")
        assert list(edits) == ["train/cat/a.jpg", "train/cat/b.jpg"]
        assert account.unknown == []
        value = edits["train/cat/b.jpg"].value
        assert np.array_equal(value > 0, block(0, 2, 0, 3, (4, 6), True, bool))
        assert value.max() == np.float32(0.7)
        assert account.images == 6
        assert account.among_images == []


def test_heat_maps_beside_the_images_are_named(cats_and_dogs):
    heat = np.repeat(np.arange(W, dtype=np.uint8)[None] * 8, H, axis=0)
    save(cats_and_dogs / "train/cat/b.png", heat)
    account, edits = run_import(cats_and_dogs, "masks", mask_edit="soft")
    assert list(edits) == ["train/cat/b.jpg"]
    assert account.images == 7
    assert [Path(path).name for path in account.among_images] == ["b.png"]
    assert "named <stem>_mask or put into another folder: 1 (" in account.text()


def test_heat_maps_soft_or_as_masks(cats_and_dogs):
    heat = np.repeat(np.arange(W, dtype=np.uint16)[None] * 2000, H, axis=0)
    save(cats_and_dogs.parent / "masks/cat/a.png", heat)
    _, edits = run_import(cats_and_dogs, "masks", cats_and_dogs.parent / "masks", mask_edit="soft")
    edit = edits["train/cat/a.jpg"]
    assert np.allclose(edit.value, (np.arange(6) * 8000 + 3000) / 65535)
    assert edit.edited.all()
    _, edits = run_import(cats_and_dogs, "masks", cats_and_dogs.parent / "masks", mask_edit="both")
    assert (edits["train/cat/a.jpg"].value == np.float32([0, 0, 0, 0, 0.9, 0.9])).all()  # 0.5 from x = 17


def test_unreadable_masks_stop_the_import_or_are_skipped(cats_and_dogs):
    save(cats_and_dogs.parent / "masks/cat/a.png", block(0, 8, 0, 12))
    (cats_and_dogs.parent / "masks/cat/b.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"--skip_bad_images: .*b\.png"):
        run_import(cats_and_dogs, "masks", cats_and_dogs.parent / "masks")
    assert not (cats_and_dogs / "edits.sqlite").exists()
    account, edits = run_import(cats_and_dogs, "masks", cats_and_dogs.parent / "masks", skip_bad_images=True)
    assert list(edits) == ["train/cat/a.jpg"]
    assert account.without["bad"] == ["train/cat/b.jpg"]


# the data sets' own masks


@pytest.mark.parametrize("boxes", [False, True])
def test_cub_masks_and_boxes(tmp_path, cub, boxes):
    name, root, _ = cub
    edits = str(tmp_path / "e.sqlite")
    grid = f"{SIZE[1]}x{SIZE[0]}"  # a cell per pixel
    options = ImportOptions(
        [name],
        dataset_path=str(root),
        val_fraction=0,
        grid=grid,
        edits=edits,
        boxes=boxes,
        mask_edit="object",
    )
    account = import_edits(options)
    assert account.edited == [f"images/{file}" for file in TRAIN]
    assert not account.resized
    for image_id, edit in stored(edits).items():
        k = FILES.index(image_id.removeprefix("images/"))
        box = block(1, 8, 2 + k, 9 + k, SIZE[::-1], 1)
        assert np.array_equal(edit.edited, (box if boxes else seg(k)) == 1)


def test_ink_is_the_ink_of_the_digits(tmp_path):
    edits = str(tmp_path / "e.sqlite")
    account = import_edits(ImportOptions(["ink"], grid="6x6", edits=edits, count=32))
    part = load_data("digits_decoy").train
    ink = ink_grid(part)
    assert len(account.edited) == 32
    assert account.editable == len(part)
    for image_id, edit in stored(edits).items():
        i = part.ids.index(image_id)
        assert np.array_equal(edit.edited, ~ink[i])
        assert (edit.value == 0).all()
        assert edit.author == "ink"
        assert (
            edit.image_sha256
            == part.sha256(i)
            == hashlib.sha256(part.images[i].numpy().tobytes()).hexdigest()
        )
        assert "in the place of a person" in edit.note


def test_careless_edits_are_so_to_the_stated_share(tmp_path):
    def edits(**options):
        path = str(tmp_path / f"{len(options)}{list(options)}.sqlite")
        import_edits(ImportOptions(["ink"], edits=path, grid="6x6", mask_edit="both", **options))
        return stored(path)

    right, half, wrong = edits(), edits(missing=0.5), edits(wrong=0.3)
    kept = np.stack([edit.edited for edit in half.values()])
    assert kept.mean() == pytest.approx(0.5, abs=0.02)
    assert kept.any((1, 2)).all()
    for name, edit in half.items():
        assert np.array_equal(edit.value[edit.edited], right[name].value[edit.edited])
        assert "0.5 of the cells left out" in edit.note
    differ = [not np.array_equal(edit.value, right[name].value) for name, edit in wrong.items()]
    assert np.mean(differ) == pytest.approx(0.3, abs=0.05)
    assert differ == ["a random map" in edit.note for edit in wrong.values()]


REAL = {  # train images, and the class on which nothing is marked
    "magnetic_tile": (419, "MT_Free"),
    "busi": (463, "normal"),
    "neu": (1074, None),
}


@pytest.mark.parametrize("name", REAL)
def test_real_masks(outside, tmp_path, name):
    images, unmarked = REAL[name]
    root, edits = outside(name), str(tmp_path / "e.sqlite")
    options = dict(dataset="folder", dataset_path=str(root), grid="8x8", edits=edits, covered=0.1)
    account = import_edits(ImportOptions(["masks", str(root / "masks")], **options))
    without, edits = account.without, stored(edits)
    assert account.images == images
    assert len(edits) + sum(map(len, without.values())) == images
    for nothing in (without["missing"], without["bad"], account.resized, account.unknown):
        assert nothing == []
    if unmarked:
        assert not any(unmarked in image_id for image_id in edits)
        assert len(without["empty"]) >= len(list((root / "train" / unmarked).iterdir()))
    for image_id in list(edits)[::50]:
        mask = read_map((root / "masks" / image_id).with_suffix(".png"))
        assert np.array_equal(~edits[image_id].edited, cell_means(mask >= 0.5, (8, 8)) >= 0.1)


# the account, and the scripts


def test_masks_that_say_nothing_write_nothing(cats_and_dogs):
    for name in ("train/cat/a", "train/dog/a"):
        save(cats_and_dogs.parent / f"masks/{name}.png", np.zeros((H, W), np.uint8))
    with pytest.raises(
        UserError, match="none of the 6 images of train can be edited: 4 without a mask, 2 with an"
    ):
        run_import(cats_and_dogs, "masks", cats_and_dogs.parent / "masks")
    assert not (cats_and_dogs / "edits.sqlite").exists()


def test_every_name_is_written_beside_the_store(cats_and_dogs):
    names = [f"{k}.png" for k in range(9)]
    for name in ["cat/a.png", *names]:
        save(cats_and_dogs.parent / "masks" / name, block(0, 8, 0, 12))
    account, _ = run_import(cats_and_dogs, "masks", cats_and_dogs.parent / "masks")
    path = cats_and_dogs / "edits.sqlite.account.json"
    assert json.loads(path.read_text())["unknown"] == account.unknown == [str(k) for k in range(9)]
    assert account.text().endswith(f"(0, 1, 2, ...)\nall names: {path}")


def script(monkeypatch, name, *args):
    path = str(ROOT / f"src/{name}.py")
    monkeypatch.setattr(sys, "argv", [path, *map(str, args)])
    runpy.run_path(path, run_name="__main__")


def test_edits_leave_and_come_back_from_a_shell(cats_and_dogs, tmp_path, monkeypatch, capsys):
    save(cats_and_dogs.parent / "masks/cat/a.png", block(0, 8, 0, 12))
    _, edits = run_import(cats_and_dogs, "masks", cats_and_dogs.parent / "masks")
    exported, other = tmp_path / "exported", tmp_path / "other.sqlite"
    script(monkeypatch, "export_edits", "--edits", cats_and_dogs / "edits.sqlite", "--out", exported)
    for _ in range(2):
        script(monkeypatch, "import_edits", "--from", "export", exported, "--edits", other)
    assert stored(other) == edits
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("exported: 1 edits of 1 images")
    assert said[1].endswith(f"1 added from {exported}")
    assert said[2].endswith(f"0 added from {exported}, 1 were there already")
    for args, says in (
        ([exported, "--grid", "4x4"], "as they are; leave out --grid"),
        ([], "takes the folder that was exported"),
        ([tmp_path], "no whole export"),
    ):
        with pytest.raises(SystemExit, match=says):
            script(monkeypatch, "import_edits", "--from", "export", *args, "--edits", tmp_path / "new.sqlite")
    assert not (tmp_path / "new.sqlite").exists()


def test_the_edit_of_a_file_that_was_saved_anew(tmp_path):
    """It is not used, until a person says that the file shows what it showed."""
    options = ["--dataset", "folder", "--dataset_path", str(tmp_path / "images"), "--img_size", "16"]
    images = make_folder(tmp_path / "images", {"a": 3, "b": 3}, suffix=".jpg")
    run = untrained_run(tmp_path, *options, "--val_fraction", "0")
    part = run.open_data().train
    one, two = (StoredEdit(part.ids[i], part.sha256(i), *HALF, "mika") for i in (0, 1))
    store, exported, merged = (tmp_path / name for name in ("a.sqlite", "exported", "b.sqlite"))
    with EditStore(store) as edits:
        edits.save_many([one, two])
        export_edits(edits, exported)
    image = images / part.ids[0]
    Image.open(image).save(image, quality=30)
    part = run.open_data().train
    with pytest.raises(UserError, match=r"1 of changed images\); .*--same_pictures"):
        load_edits(str(store), part.subset([0]), (2, 2))
    for told in ("2 added", "0 added"):
        options = dict(run=str(run.folder), edits=str(merged), same_pictures=True)
        assert told in import_edits(ImportOptions(["export", str(exported)], **options)).text()
    _, account = load_edits(str(merged), part, (2, 2))
    assert account["used"] == 2
    assert stored(merged)[part.ids[0]].note == "(file saved anew)"
    with pytest.raises(UserError, match="needs --run"):
        ImportOptions(["export", str(exported)], same_pictures=True)


def test_the_script(cats_and_dogs, monkeypatch, capsys):
    save(cats_and_dogs.parent / "masks/cat/a.png", block(0, 8, 0, 12))
    edits = cats_and_dogs / "edits.sqlite"
    args = ["--dataset", "folder", "--dataset_path", cats_and_dogs, "--grid", "4x6", "--edits", edits]
    args += ["--from", "masks", cats_and_dogs.parent / "masks"]
    script(monkeypatch, "import_edits", *args)
    assert capsys.readouterr().out.startswith("train: 6 images, 1 of them can be edited\nedits in ")
    assert list(stored(edits)) == ["train/cat/a.jpg"]
    with pytest.raises(SystemExit, match=r"^error: argument --count: invalid int value"):
        script(monkeypatch, "import_edits", *args, "--count", "many")

"""Human attention becomes edits: the right cells of the right images, and none where nobody said a thing."""

import hashlib
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cub import FILES, SIZE, TRAIN, cub, cub_2010, cub_2011, seg  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sigmoid_vit.evaluation_MISSING import predict
from sigmoid_vit.human_attention.selection_MISSING import Judge

from sigmoid_vit import UserError
from sigmoid_vit.annotations.cells import cell_edit, cell_means, cells_inside
from sigmoid_vit.annotations.gaze import SIGMA, gaze_map, read_fixations
from sigmoid_vit.annotations.import_options import ImportOptions
from sigmoid_vit.annotations.importing import import_edits
from sigmoid_vit.annotations.selection import stratified
from sigmoid_vit.annotations.sources import read_map
from sigmoid_vit.data import DATASETS, ink_grid, load_data
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.files import sha256
from sigmoid_vit.model.checkpoints import save_checkpoint
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import build_model
from sigmoid_vit.runs.settings import Settings

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared/data"
W, H = 24, 16  # of the images in the folder below


def stored(path):
    with EditStore(path, readonly=True) as store:
        return store.current_all()


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path)
    return path


def block(top, bottom, left, right, size=(H, W), value=255, dtype=np.uint8):
    mask = np.zeros(size, dtype)
    mask[top:bottom, left:right] = value
    return mask


@pytest.fixture
def folder(tmp_path):
    """Two classes with three train images each, and one val image each."""
    for part, names in (("train", "abc"), ("val", "v")):
        for k, class_name in enumerate(("cat", "dog")):
            for i, name in enumerate(names):
                save(
                    tmp_path / f"data/{part}/{class_name}/{name}.jpg",
                    np.full((H, W, 3), 40 * i + k, np.uint8),
                )
    return tmp_path / "data"


def run_import(folder, source, *files, grid="4x6", **options):
    """Import on a folder; returns the account and the store's edits by image id."""
    edits = str(folder / "edits.sqlite")
    options = {"dataset": "folder", "dataset_path": str(folder), "grid": grid, "edits": edits, **options}
    account = import_edits(ImportOptions(source, [str(file) for file in files], **options))
    return account, stored(edits)


# cells


@settings(max_examples=60, deadline=None)
@given(
    gh=st.integers(1, 9),
    gw=st.integers(1, 9),
    scale=st.integers(1, 7),
    stretch=st.integers(1, 3),
    data=st.data(),
)
def test_a_known_square_gives_exactly_its_cells(gh, gw, scale, stretch, data):
    top, left = data.draw(st.integers(0, gh - 1)), data.draw(st.integers(0, gw - 1))
    bottom, right = data.draw(st.integers(top + 1, gh)), data.draw(st.integers(left + 1, gw))
    sh, sw = scale, scale * stretch  # any size, any proportions: the grid spans the whole map
    mask = block(top * sh, bottom * sh, left * sw, right * sw, (gh * sh, gw * sw), 1, np.float32)
    expected = block(top, bottom, left, right, (gh, gw), True, bool)
    for covered in (0, 0.5, 1):
        assert np.array_equal(cells_inside(mask, (gh, gw), covered), expected)


@settings(max_examples=60, deadline=None)
@given(h=st.integers(1, 40), w=st.integers(1, 40), gh=st.integers(1, 20), gw=st.integers(1, 20))
def test_cell_means_keep_the_mean_whatever_the_sizes(h, w, gh, gw):
    pixels = np.random.default_rng([h, w]).random((h, w))
    cells = cell_means(pixels, (gh, gw))
    assert cells.mean() == pytest.approx(pixels.mean())
    fine = np.kron(pixels, np.ones((gh, gw)))  # every pixel cut into gh x gw
    assert np.allclose(cells, fine.reshape(gh, h, gw, w).mean((1, 3)))


def test_the_covered_share_decides_at_the_border():
    mask = block(0, 8, 0, 5, (8, 8), 1, np.float32)  # the right half of the cells is covered to a quarter
    assert cells_inside(mask, (2, 2), 0.25).all() and cells_inside(mask, (2, 2), 0).all()
    assert cells_inside(mask, (2, 2), 0.26).tolist() == [[True, False]] * 2


def test_what_a_mask_means():
    inside = np.array([[1.0, 0.0], [0.0, 0.0]])
    value, edited = cell_edit(inside, "background", 0.9)
    assert (value == 0).all() and edited.tolist() == [[False, True], [True, True]]
    value, edited = cell_edit(inside, "object", 0.9)
    assert value[0, 0] == np.float32(0.9) and edited.tolist() == [[True, False], [False, False]]
    value, edited = cell_edit(inside, "both", 0.8)
    assert value.tolist() == [[np.float32(0.8), 0], [0, 0]] and edited.all()
    value, edited = cell_edit(inside * 0.3, "soft", 0.9)
    assert value[0, 0] == np.float32(0.3) and edited.all() and value.dtype == np.float32


# masks


def test_masks_become_edits_and_all_else_is_accounted_for(folder):
    masks = folder.parent / "masks"
    save(masks / "train/cat/a.png", block(0, 8, 0, 12))
    save(masks / "train/cat/b.png", np.zeros((H, W), np.uint8))  # empty
    save(masks / "dog/a_mask.png", block(0, 80, 0, 120, (160, 240)))  # another size, without train/
    save(masks / "train/dog/b.png", block(0, 1, 0, 1))  # a pixel: no cell is covered
    save(masks / "train/dog/c.png", np.full((H, W), 255, np.uint8))  # everything
    save(masks / "val/dog/v.png", block(0, 8, 0, 12))  # known, but not in this part
    save(masks / "train/dog/z.png", block(0, 8, 0, 12))
    account, edits = run_import(folder, "masks", masks, author="yui")
    assert list(edits) == ["train/cat/a.jpg", "train/dog/a.jpg"] == sorted(account.edited)
    for image_id, edit in edits.items():
        assert np.array_equal(edit.edited, ~block(0, 2, 0, 3, (4, 6), True, bool)) and (edit.value == 0).all()
        assert edit.image_sha256 == hashlib.sha256((folder / image_id).read_bytes()).hexdigest()
        assert (edit.author, edit.layers, edit.heads, edit.queries) == ("yui", "all", None, "all")
        assert edit.note == "from masks, background, covered 0.5" and edit.weights_sha256 == ""
    assert account.without == {
        "missing": ["train/cat/c.jpg"],
        "empty": ["train/cat/b.jpg"],
        "small": ["train/dog/b.jpg"],
        "full": ["train/dog/c.jpg"],
        "bad": [],
    }
    assert account.resized == ["train/dog/a.jpg"] and account.unknown == ["train/dog/z"]
    told = account.text()
    for words in (
        "train: 6 images, 2 of them can be edited",
        "author yui, grid 4x6: 2 (train/cat/a.jpg, train/dog/a.jpg)",
        "not edited, without a mask: 1 (train/cat/c.jpg)",
        "stretched over the whole of it: 1 (train/dog/a.jpg)",
        "no known image (test parts stay closed): 1 (train/dog/z)",
    ):
        assert words in told, told

    again, _ = run_import(folder, "masks", masks, mask_edit="both", covered=0)
    assert sorted(again.replaced) == list(edits) and len(again.edited) == 4
    assert "in place of an earlier edit, which stays in the history: 2 (" in again.text()
    empty, _ = run_import(folder, "masks", masks, mask_edit="both", missing=1)
    assert empty.without_cells == empty.edited and "without a cell" in empty.text()


def test_only_the_named_part_is_edited(folder):
    save(folder.parent / "masks/val/cat/v.png", block(0, 8, 0, 12))
    _, edits = run_import(folder, "masks", folder.parent / "masks", split="val")
    assert list(edits) == ["val/cat/v.jpg"]


def test_masks_beside_the_images(folder):
    save(folder / "train/cat/a_mask.png", block(0, 8, 0, 12))
    save(folder / "train/cat/b.png", block(0, 8, 0, 12))
    for files in ([], [folder]):
        account, edits = run_import(folder, "masks", *files, object_value=0.7, mask_edit="object")
        assert list(edits) == ["train/cat/a.jpg", "train/cat/b.jpg"] and account.unknown == []
        value = edits["train/cat/b.jpg"].value
        assert np.array_equal(value > 0, block(0, 2, 0, 3, (4, 6), True, bool)) and value.max() == np.float32(
            0.7
        )
        assert account.images == 6 and account.among_images == []


def test_heat_maps_beside_the_images_are_told_of(folder):
    heat = np.repeat(np.arange(W, dtype=np.uint8)[None] * 8, H, axis=0)
    save(folder / "train/cat/b.png", heat)
    account, edits = run_import(folder, "masks", mask_edit="soft")
    assert list(edits) == ["train/cat/b.jpg"]
    assert account.images == 7 and [Path(path).name for path in account.among_images] == ["b.png"]
    assert "named <stem>_mask or put into another folder: 1 (" in account.text()


def test_kinds_of_mask_files(tmp_path):
    half = block(0, 8, 0, 12)
    expected = half.astype(bool)
    heat = np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)
    assert np.array_equal(read_map(save(tmp_path / "16.png", heat)), (heat / 65535).astype(np.float32))
    assert np.array_equal(read_map(save(tmp_path / "8.png", half)), expected)
    assert np.array_equal(read_map(save(tmp_path / "ones.png", half // 255)), expected)  # labels 0 and 1
    assert np.array_equal(read_map(save(tmp_path / "rgb.png", np.stack([half] * 3, -1))), expected)
    assert np.abs(read_map(save(tmp_path / "lossy.jpg", half)) - expected).max() < 0.1
    Image.fromarray(half).convert("1").save(tmp_path / "1.png")
    Image.fromarray(half).convert("P").save(tmp_path / "p.png")
    Image.fromarray(half).convert("LA").save(tmp_path / "la.png")
    for name in ("1.png", "p.png", "la.png"):
        assert np.array_equal(read_map(tmp_path / name), expected), name
    coloured = np.zeros((H, W, 3), np.uint8)
    coloured[:8, :, 0] = 128
    with pytest.raises(UserError, match=r"red\.png: is coloured"):
        read_map(save(tmp_path / "red.png", coloured))
    with pytest.raises(UserError, match="floating-point"):
        read_map(save(tmp_path / "f.tiff", half.astype(np.float32)))


def test_heat_maps_soft_or_as_masks(folder):
    heat = np.repeat(np.arange(W, dtype=np.uint16)[None] * 2000, H, axis=0)
    save(folder.parent / "masks/cat/a.png", heat)
    _, edits = run_import(folder, "masks", folder.parent / "masks", mask_edit="soft")
    edit = edits["train/cat/a.jpg"]
    assert np.allclose(edit.value, (np.arange(6) * 8000 + 3000) / 65535) and edit.edited.all()
    _, edits = run_import(folder, "masks", folder.parent / "masks", mask_edit="both")
    assert (edits["train/cat/a.jpg"].value == np.float32([0, 0, 0, 0, 0.9, 0.9])).all()  # 0.5 from x = 17


def test_unreadable_masks_stop_the_import_or_are_skipped(folder):
    save(folder.parent / "masks/cat/a.png", block(0, 8, 0, 12))
    (folder.parent / "masks/cat/b.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"--skip_bad_images: .*b\.png"):
        run_import(folder, "masks", folder.parent / "masks")
    assert not (folder / "edits.sqlite").exists()
    account, edits = run_import(folder, "masks", folder.parent / "masks", skip_bad_images=True)
    assert list(edits) == ["train/cat/a.jpg"] and account.without["bad"] == ["train/cat/b.jpg"]


# gaze


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_gaze_is_where_people_looked_and_weighted_by_how_long(tmp_path):
    file = write(tmp_path / "gaze.txt", "7,500,400,100,50,300,400,350,150", "8,10,10,5,5,0")
    fixations = read_fixations([file])
    assert fixations["7"].tolist() == [[500, 400, 100, 50, 300], [500, 400, 400, 350, 150]]
    gaze = gaze_map(fixations["7"])
    assert gaze.shape == (400, 500) and gaze.dtype == np.float32 and gaze.max() == 1 and gaze.min() >= 0
    assert np.unravel_index(gaze.argmax(), gaze.shape) in [(y, x) for y in (49, 50) for x in (99, 100)]
    assert gaze[350, 400] == pytest.approx(0.5, abs=1e-3)
    assert gaze[50, 100 + round(SIGMA * 500)] == pytest.approx(np.exp(-0.5), abs=0.02)
    assert gaze_map(fixations["8"]).max() == 0  # looked at for no time at all


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 60), st.floats(0, 40), st.integers(1, 3000)), min_size=1, max_size=8),
    st.randoms(),
)
def test_gaze_mass_lies_around_the_fixations_in_whatever_order(fixations, random):
    rows = [(60.0, 40.0, *fixation) for fixation in fixations]
    gaze = gaze_map(np.array(sorted(rows)))
    y, x = (np.arange(n) + 0.5 for n in (40, 60))
    far = np.stack([np.hypot(y[:, None] - fy, x - fx) for _, _, fx, fy, _ in rows]).min(0) > 4 * SIGMA * 60
    assert gaze[far].sum() <= 0.01 * gaze.sum() and gaze.max() == 1
    assert np.allclose(gaze_map(np.array(sorted(rows * 2))), gaze, atol=1e-6)  # everybody looks twice
    random.shuffle(rows)
    assert np.allclose(gaze_map(np.array(rows)), gaze, atol=1e-6)


def test_trials_add_up_over_lines_and_files_in_any_order(tmp_path):
    a = write(
        tmp_path / "a.txt", "1,60,40,10,20,300", "2,60,40,1,1,100", "", "1, 60, 40, 50, 20, 100,30,9,50"
    )
    b = write(tmp_path / "b.txt", "1,60,40,30,30,900\r")
    c = write(tmp_path / "c.txt", "1,60,40,50,20,100,30,9,50", "1,60,40,30,30,900", "1,60,40,10,20,300")
    both, other, one = read_fixations([a, b]), read_fixations([b, a]), read_fixations([c])
    assert len(both["1"]) == 4 and list(other) == ["1", "2"]
    assert np.array_equal(gaze_map(both["1"]), gaze_map(other["1"]))
    assert np.array_equal(gaze_map(both["1"]), gaze_map(one["1"]))


def test_fixations_outside_the_image_say_nothing():
    inside, outside = [60, 40, 10, 10, 100], [60, 40, 90, 10, 5000]
    assert np.array_equal(gaze_map(np.array([inside, outside])), gaze_map(np.array([inside])))
    assert gaze_map(np.array([outside])).max() == 0
    stretched = gaze_map(
        np.array([inside, [120, 80, 20, 20, 100]], dtype=float)
    )  # the image at twice its size
    assert np.allclose(stretched, gaze_map(np.array([inside])))


BAD_LINES = "9|9,60,40|9,60,40,1,2|9,60,40,1,2,3,4|,60,40,1,2,3|9,60,40,1,2,long|9,60,40,1,nan,3|9,0,40,1,2,3"
BAD_LINES += "|9,60,40,1,2,-3|9,1e9,1e9,1,2,3|id,width,height,x,y,ms"


@pytest.mark.parametrize("line", BAD_LINES.split("|"))
def test_a_bad_line_is_named_with_its_number(tmp_path, cub_2011, line):  # noqa: F811
    file = write(tmp_path / "gaze.txt", "1,60,40,1,2,3", "", line)
    options = dict(dataset_path=str(cub_2011), val_fraction=0, grid="4x4", edits=str(tmp_path / "e.sqlite"))
    with pytest.raises(UserError, match=r"gaze\.txt, line 3 has"):
        import_edits(ImportOptions("gaze", [file], **options))
    assert not (tmp_path / "e.sqlite").exists()


def test_gaze_on_cub_by_the_numbers_of_images_txt(tmp_path, cub_2011):  # noqa: F811
    w, h = SIZE
    in_train = [FILES.index(file) + 1 for file in TRAIN]
    in_test = next(i for i in range(1, len(FILES)) if i not in in_train)
    lines = [f"{number},{w},{h},7,3,400" for number in in_train[:3]]
    lines[1] += f",{w + 1},3,90,-1,3,90"
    file = write(tmp_path / "gaze.txt", *lines, f"{in_test},{w},{h},7,3,400", "999,20,14,7,3,400")
    options = dict(dataset_path=str(cub_2011), val_fraction=0, edits=str(tmp_path / "e.sqlite"), grid="2x4")
    account = import_edits(ImportOptions("gaze", [file], **options))
    edits = stored(tmp_path / "e.sqlite")
    assert list(edits) == [f"images/{file}" for file in TRAIN[:3]] and account.unknown == ["999"]
    assert account.outside == {f"images/{TRAIN[1]}": 2}
    assert f"outside their image, left out: 2 (images/{TRAIN[1]})" in account.text()
    for edit in edits.values():
        assert edit.edited.all() and edit.value.argmax() == 1 and 0 < edit.value.max() <= 1
    assert len(account.without["missing"]) == len(TRAIN) - 3 and account.resized == []

    maps = tmp_path / "maps"
    for number in (in_train[4], in_test, 999):
        save(maps / f"{number}.jpg", block(0, 7, 0, 5, (14, 20)))
    account = import_edits(ImportOptions("gaze_maps", [str(maps)], **options, mask_edit="object"))
    assert account.edited == [f"images/{TRAIN[4]}"] and account.unknown == ["999"]
    edit = stored(tmp_path / "e.sqlite")[f"images/{TRAIN[4]}"]
    assert np.flatnonzero(edit.edited).tolist() == [0]


# the data sets' own masks


@pytest.mark.parametrize("boxes", [False, True])
def test_cub_masks_and_boxes(tmp_path, cub, boxes):  # noqa: F811
    name, root, _ = cub
    edits = str(tmp_path / "e.sqlite")
    grid = f"{SIZE[1]}x{SIZE[0]}"  # a cell per pixel
    options = ImportOptions(
        name, dataset_path=str(root), val_fraction=0, grid=grid, edits=edits, boxes=boxes, mask_edit="object"
    )
    account = import_edits(options)
    assert account.edited == [f"images/{file}" for file in TRAIN] and not account.resized
    for image_id, edit in stored(edits).items():
        k = FILES.index(image_id.removeprefix("images/"))
        box = block(1, 8, 2 + k, 9 + k, SIZE[::-1], 1)
        assert np.array_equal(edit.edited, (box if boxes else seg(k)) == 1)


def test_ink_is_the_ink_of_the_digits(tmp_path):
    edits = str(tmp_path / "e.sqlite")
    account = import_edits(ImportOptions("ink", grid="6x6", edits=edits, count=32))
    part = load_data("digits_decoy").train
    ink = ink_grid(part)
    assert len(account.edited) == 32 and account.editable == len(part)
    for image_id, edit in stored(edits).items():
        i = part.ids.index(image_id)
        assert np.array_equal(edit.edited, ~ink[i]) and (edit.value == 0).all() and edit.author == "ink"
        assert (
            edit.image_sha256
            == part.sha256(i)
            == hashlib.sha256(part.images[i].numpy().tobytes()).hexdigest()
        )
        assert "in the place of a person" in edit.note


@pytest.mark.skipif(not (SHARED / "magnetic_tile").exists(), reason="no magnetic tiles")
def test_careless_edits_are_so_to_the_stated_share(tmp_path):
    def edits(**options):
        path = str(tmp_path / f"{len(options)}{list(options)}.sqlite")
        import_edits(ImportOptions("ink", edits=path, grid="6x6", mask_edit="both", **options))
        return stored(path)

    right, half, wrong = edits(), edits(missing=0.5), edits(wrong=0.3)
    kept = np.stack([edit.edited for edit in half.values()])
    assert kept.mean() == pytest.approx(0.5, abs=0.02) and kept.any((1, 2)).all()
    for name, edit in half.items():
        assert np.array_equal(edit.value[edit.edited], right[name].value[edit.edited])
        assert "0.5 of the cells left out" in edit.note
    differ = [not np.array_equal(edit.value, right[name].value) for name, edit in wrong.items()]
    assert np.mean(differ) == pytest.approx(0.3, abs=0.05)
    assert differ == ["a random map" in edit.note for edit in wrong.values()]


def test_real_tiles(tmp_path):
    tiles = SHARED / "magnetic_tile"
    options = dict(dataset="folder", dataset_path=str(tiles), grid="8x8", edits=str(tmp_path / "e.sqlite"))
    account = import_edits(ImportOptions("masks", [str(tiles / "masks")], **options, covered=0.1))
    without, edits = account.without, stored(tmp_path / "e.sqlite")
    free = list((tiles / "train/MT_Free").iterdir())
    assert len(without["empty"]) >= len(free) and not any("MT_Free" in image_id for image_id in edits)
    assert not (without["missing"] or without["bad"] or account.resized or account.unknown)
    assert len(edits) + sum(map(len, without.values())) == account.images == 414
    image_id = next(iter(edits))
    mask = read_map((tiles / "masks" / image_id).with_suffix(".png"))
    assert np.array_equal(~edits[image_id].edited, cell_means(mask >= 0.5, (8, 8)) >= 0.1)


@pytest.mark.skipif(not (SHARED / "cub_gha").exists(), reason="no gaze files")
def test_real_gaze_files():
    files = sorted((SHARED / "cub_gha").glob("*.txt"))
    fixations = read_fixations(files)
    assert sum(map(len, fixations.values())) == 2842 + 2544 and len(fixations) > 390
    for rows in fixations.values():
        gaze = gaze_map(rows)
        assert gaze.max() == 1 and gaze.shape == (rows[0, 1], rows[0, 0])
        at_fixations = gaze[rows[:, 3].astype(int), rows[:, 2].astype(int)]
        assert np.average(at_fixations, weights=rows[:, 4]) > max(0.3, 5 * gaze.mean())


# which images


@given(
    n=st.integers(1, 90), counts=st.lists(st.integers(1, 30), min_size=1, max_size=6), seed=st.integers(0, 9)
)
def test_random_images_are_spread_over_the_classes(n, counts, seed):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    n = min(n, len(labels))
    chosen = stratified(labels, n, seed)
    assert len(set(chosen.tolist())) == n and np.array_equal(chosen, stratified(labels, n, seed))
    share = np.array(counts) * n / len(labels)
    assert (np.abs(np.bincount(labels[chosen], minlength=len(counts)) - share) <= 1).all()


def test_a_fraction_is_of_all_images_and_the_seed_chooses(tmp_path):
    def chosen(**options):
        options = {"fraction": 0.1, **options, "val_fraction": 0, "edits": str(tmp_path / "e.sqlite")}
        return import_edits(ImportOptions("ink", grid="6x6", **options)).edited

    first = chosen()
    assert len(first) == round(0.1 * 1297) and chosen() == first != chosen(seed=1)
    digit = dict(zip((part := load_data("digits_decoy", val_fraction=0).train).ids, part.labels, strict=True))
    assert set(np.bincount([digit[i] for i in first])) <= {12, 13, 14}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with random weights: a network that is wrong about most digits."""
    s = Settings(**{**DATASETS["digits_decoy"].defaults, "dataset": "digits_decoy", "seed": 3})
    run = Run(tmp_path_factory.mktemp("runs") / "run")
    torch.manual_seed(0)
    run.create(s, classes=[str(k) for k in range(10)])
    save_checkpoint(run.best, {"model": build_model(s, 10).state_dict(), "epoch": 1})
    return run


def test_the_network_says_which_images_need_an_edit(run, tmp_path):
    s = run.settings()
    part = load_data(s.dataset, None, s.val_fraction, s.seed).train
    judge = Judge(run, s, part)
    logits, labels = predict(judge.model, judge.part, judge.transform, 100, judge.accelerator)
    confidence, prediction = logits.softmax(1).max(1)
    wrong = {part.ids[i] for i in torch.nonzero(prediction != labels)[:, 0].tolist()}
    ink = ink_grid(part)
    outside = judge.outside(np.arange(len(part)), list(ink.astype(float)))
    _, rows = judge.model.forward_with_attention(judge.transform(part.images[:1], torch.zeros(1).long()))
    attention = next(iter(rows.values()))[0, :, 0, 1:].softmax(-1).mean(0).detach().numpy().reshape(6, 6)
    assert outside[0] == pytest.approx(attention[~ink[0]].sum(), abs=1e-5)

    def chosen(select):
        edits = str(tmp_path / f"{select}.sqlite")
        options = ImportOptions("ink", run=str(run.folder), select=select, count=20, edits=edits)
        account = import_edits(options)
        assert {edit.weights_sha256 for edit in stored(edits).values()} == {sha256(run.best)}
        assert account.grid == (6, 6) and len(account.edited) == 20 and account.images == len(part)
        return account.edited

    assert set(chosen("errors")) <= wrong
    least_sure = {part.ids[i] for i in confidence.argsort(stable=True)[:20].tolist()}
    assert set(chosen("uncertain")) == least_sure
    most_off = {part.ids[i] for i in np.argsort(-outside, kind="stable")[:20]}
    assert set(chosen("attention_off")) == most_off and outside.min() > 0
    assert judge.choose("attention_off", np.arange(9), [np.ones((6, 6))] * 9).tolist() == []


def test_random_with_a_run_takes_its_split_and_grid(run, tmp_path):
    options = ImportOptions("ink", run=str(run.folder), edits=str(tmp_path / "e.sqlite"))
    account = import_edits(options)
    assert account.grid == (6, 6) and len(account.edited) == 1167
    assert set(account.edited) == set(load_data("digits_decoy", seed=3).train.ids)


# bad requests


@pytest.mark.parametrize(
    "options, message",
    [
        ({"source": "dreams"}, "--from is 'dreams'; .*masks, cub200"),
        ({"source": "masks", "files": ["/absent"]}, "there is no folder /absent"),
        ({"source": "masks", "files": ["a", "b"]}, "masks takes the folder"),
        ({"source": "gaze", "files": []}, "at least one file"),
        ({"source": "gaze", "files": ["/absent.txt"]}, "absent.txt is not a readable file"),
        ({"source": "gaze_maps", "files": ["/absent"]}, "there is no folder /absent"),
        (
            {"source": "masks", "files": [], "dataset": "digits_decoy"},
            "no folder of its own; name the folder",
        ),
        ({"source": "ink", "dataset": "folder"}, "reads the masks of digits_decoy"),
        ({"source": "masks", "files": ["{empty}"]}, "no image of train has a mask or map in"),
        ({"grid": "14"}, "--grid is '14'"),
        ({"grid": "0x4"}, "--grid is '0x4'"),
        ({"grid": "4x-4"}, "--grid is '4x-4'"),
        ({"grid": None}, "--grid, such as 14x14, or --run"),
        ({"mask_edit": "all"}, "--mask_edit is 'all'"),
        ({"select": "worst"}, "--select is 'worst'"),
        ({"select": "errors"}, "name its run with --run"),
        ({"object_value": 1.5}, "--object_value is 1.5"),
        ({"covered": float("nan")}, "--covered is nan"),
        ({"fraction": 0.0}, "--fraction is 0.0"),
        ({"count": 0}, "--count is 0"),
        ({"count": 3, "fraction": 0.5}, "give one of them"),
        ({"boxes": True}, "masks has no boxes"),
        ({"author": "propagated"}, "kept for edits that a network predicted"),
        ({"split": "holdout"}, "no part 'holdout'"),
        ({"dataset": None}, "--dataset is missing"),
        ({"dataset": "birds"}, "no data set 'birds'"),
        ({"run": "/absent", "grid": None}, "is not a run"),
    ],
)
def test_bad_requests_are_one_sentence_and_write_nothing(folder, tmp_path, options, message):
    save(tmp_path / "masks/cat/a.png", block(0, 8, 0, 12))
    (tmp_path / "empty").mkdir()
    files = [file.format(empty=tmp_path / "empty") for file in options.get("files", [])]
    edits = tmp_path / "e.sqlite"
    base = {"source": "masks", "dataset": "folder", "dataset_path": str(folder), "grid": "4x4"}
    if "source" not in options:
        files = [str(tmp_path / "masks")]
    with pytest.raises(UserError, match=message):
        import_edits(ImportOptions(**{**base, **options, "files": files, "edits": str(edits)}))
    assert not edits.exists()


def test_masks_that_say_nothing_write_nothing(folder):
    for name in ("train/cat/a", "train/dog/a"):
        save(folder.parent / f"masks/{name}.png", np.zeros((H, W), np.uint8))
    with pytest.raises(
        UserError, match="none of the 6 images of train can be edited: 4 without a mask, 2 with an"
    ):
        run_import(folder, "masks", folder.parent / "masks")
    assert not (folder / "edits.sqlite").exists()


def test_every_name_is_written_beside_the_store(folder):
    names = [f"{k}.png" for k in range(9)]
    for name in ["cat/a.png", *names]:
        save(folder.parent / "masks" / name, block(0, 8, 0, 12))
    account, _ = run_import(folder, "masks", folder.parent / "masks")
    path = folder / "edits.sqlite.account.json"
    assert json.loads(path.read_text())["unknown"] == account.unknown == [str(k) for k in range(9)]
    assert account.text().endswith(f"(0, 1, 2, ...)\nall names: {path}")


def script(monkeypatch, name, *args):
    path = str(ROOT / f"src/{name}.py")
    monkeypatch.setattr(sys, "argv", [path, *map(str, args)])
    runpy.run_path(path, run_name="__main__")


def test_edits_leave_and_come_back_from_a_shell(folder, tmp_path, monkeypatch, capsys):
    save(folder.parent / "masks/cat/a.png", block(0, 8, 0, 12))
    _, edits = run_import(folder, "masks", folder.parent / "masks")
    exported, other = tmp_path / "exported", tmp_path / "other.sqlite"
    script(monkeypatch, "export_edits", "--edits", folder / "edits.sqlite", "--out", exported)
    for _ in range(2):
        script(monkeypatch, "import_edits", "--from", "export", exported, "--edits", other)
    assert stored(other) == edits
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("exported: 1 edits of 1 images") and told[1].endswith(f"1 added from {exported}")
    assert told[2].endswith(f"0 added from {exported}, 1 were there already")
    for args, says in (
        ([exported, "--grid", "4x4"], "as they are; leave out --grid"),
        ([], "takes the folder that was exported"),
        ([tmp_path], "no whole export"),
    ):
        with pytest.raises(SystemExit, match=says):
            script(monkeypatch, "import_edits", "--from", "export", *args, "--edits", tmp_path / "new.sqlite")
    assert not (tmp_path / "new.sqlite").exists()


def test_the_script(folder, monkeypatch, capsys):
    save(folder.parent / "masks/cat/a.png", block(0, 8, 0, 12))
    edits = folder / "edits.sqlite"
    args = ["--dataset", "folder", "--dataset_path", folder, "--grid", "4x6", "--edits", edits]
    args += ["--from", "masks", folder.parent / "masks"]
    script(monkeypatch, "import_edits", *args)
    assert capsys.readouterr().out.startswith("train: 6 images, 1 of them can be edited\nedits in ")
    assert list(stored(edits)) == ["train/cat/a.jpg"]
    with pytest.raises(SystemExit, match=r"^error: argument --count: invalid int value"):
        script(monkeypatch, "import_edits", *args, "--count", "many")

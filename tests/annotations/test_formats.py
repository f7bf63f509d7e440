"""Files of every annotation tool: the same objects give the same edits, and damage is named."""

import json
import os

import numpy as np
import pytest
from helpers import annotation_files as written
from helpers.marked_images import run_import, save
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sigmoid_vit import UserError
from sigmoid_vit.annotations.formats import brush, shapes
from sigmoid_vit.annotations.image_names import SEVERAL

NAMES = [write.__name__ for write in written.FILES]
BY_NAME = {write.__name__: (write, kind) for write, kind in written.FILES.items()}
HAVE_LABELS = [name for name, (_, kind) in BY_NAME.items() if kind != "masks" or name == "label_map_png"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return written.images(tmp_path_factory.mktemp("formats") / "data")


def imported(data, folder, name, **options):
    write, kind = BY_NAME[name]
    folder.mkdir(exist_ok=True)
    return run_import(data, kind, *write(folder), val_fraction=0, grid="4x6", mask_edit="both", **options)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_objects_give_the_same_edits(data, tmp_path, name):
    account, edits = imported(data, tmp_path / "f", name)
    assert list(edits) == list(written.OBJECTS)
    for image_id, (_, (left, top, right, bottom)) in written.OBJECTS.items():
        expected = np.zeros((4, 6))
        expected[top // 8 : bottom // 8, left // 8 : right // 8] = 0.9
        assert np.array_equal(edits[image_id].value, np.float32(expected))
        assert edits[image_id].edited.all()
    assert account.without["missing"] == ["train/cat/c.jpg", "train/dog/d.jpg"]
    assert not (account.unknown or account.resized)


@pytest.mark.parametrize("name", HAVE_LABELS)
def test_a_label_is_chosen_by_its_name(data, tmp_path, name):
    account, _ = imported(data, tmp_path / "f", name, mask_value=["hole"], edits=str(tmp_path / "e"))
    assert account.edited == ["train/dog/b.jpg"]
    assert account.without["empty"] == ["train/cat/a.jpg"]
    with pytest.raises(UserError, match=r"--mask_value crack .*its labels: .*hole, scratch"):
        imported(data, tmp_path / "f", name, mask_value=["crack"])


@pytest.mark.parametrize("name", NAMES)
def test_shapes_may_mark_the_background(data, tmp_path, name):
    _, edits = imported(data, tmp_path / "f", name, inverted=True)
    assert len(edits) == 2
    for image_id, (_, (left, top, right, bottom)) in written.OBJECTS.items():
        expected = np.full((4, 6), 0.9)
        expected[top // 8 : bottom // 8, left // 8 : right // 8] = 0
        value = edits[image_id].value
        assert np.array_equal(value, np.float32(expected))


def test_what_was_found_is_told(data, tmp_path):
    account, _ = imported(data, tmp_path / "f", "labelme_polygon", mask_value=["hole"])
    text = account.text()
    assert "shapes of each label: hole 1, scratch 1" in text
    assert "without an area (points, lines), left out: 2" in text
    assert "with an empty mask (no pixel reaches 0.5; found there: scratch): 1" in text


def changed(folder, name, change):
    """The files of a format, of which a text was replaced."""
    (path,) = (p for p in BY_NAME[name][0](folder) if p.is_file())
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    return path


@pytest.mark.parametrize(
    "name, change, says",
    [
        ("coco_polygon", ('"annotations"', '"annotation"'), "instances.json, .*lacks 'annotations'"),
        ("coco_polygon", ('"image_id": 1', '"image_id": 7'), "annotation 2 .*image 7, which the"),
        ("coco_polygon", ('"categories"', '"categories'), "instances.json .*line 1 column"),
        ("coco_plain_rle", ('"size": [32, 48]', '"size": [48, 32]'), "mask is 32 x 48, its image 48 x 32"),
        ("coco_plain_rle", ('"counts": [', '"counts": [3, '), "annotation 1: the run lengths add up to 1539"),
        ("coco_polygon", ('[8, 8, 32,', '[8, 8, 3200,'), r"\(3200, 8\) is far outside an image of 48 x 32"),
        ("label_studio_brush", ('"rle": [0', '"rle": [9'), "task 1, region 1: the brush's code has"),
        ("label_studio_polygon", ('"image_rotation": 0', '"image_rotation": 90'), "turned in Label Studio"),
        ("label_studio_polygon", ('"data"', '"date"'), "it names no image"),
        ("cvat_polygon", ('width="48"', 'width="x"'), "image 0 cannot be used"),
        ("cvat_polygon", ("</annotations>", ""), "damaged XML, .*line 1, column"),
        ("cvat_polygon", ('<annotations>', '<annotations><track/>'), "CVAT for images 1.1"),
        ("cvat_mask", ('rle="0, ', 'rle="7, '), "image cat/a.jpg, shape 1: the run lengths"),
        ("cvat_box", ('xtl="8.00"', 'xtl="eight"'), "image cat/a.jpg, shape 1 cannot"),
    ],
)  # fmt: skip
def test_damage_is_named_with_its_place(data, tmp_path, name, change, says):
    path = changed(tmp_path, name, change)
    with pytest.raises(UserError, match=says) as refused:
        run_import(data, BY_NAME[name][1], path, val_fraction=0, edits=str(tmp_path / "e.sqlite"))
    assert path.name in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "e.sqlite").exists()


@pytest.mark.parametrize(
    "name, file, content, says",
    [
        (
            "voc_xml",
            "Annotations/a.xml",
            "<annotation><object><name>x</name></object></annotation>",
            "object 1",
        ),
        ("voc_xml", "Annotations/a.xml", "<html/>", "its root is <html>"),
        ("yolo_box", "train/labels/a.txt", "0 0.5 0.5 0.1 0.1\n0 0.5", "line 2 .*1 numbers behind the class"),
        ("yolo_box", "train/labels/a.txt", "0 30 16 20 10", "line 1 .*outside 0..1"),
        ("yolo_polygon", "data.yaml", "names: [a, ", "data.yaml is damaged"),
        ("labelme_polygon", "a.json", '{"shapes": [{"label": "x"}]}', "a.json, shape 1 .*lacks 'points'"),
        ("npy", "train/a.npy", "no array", "a.npy: cannot be read"),
        ("label_map_png", "labelmap.txt", "background:0,0,0::\nhole:1::", "line 2 is 'hole:1::'"),
        ("label_map_png", "labelmap.txt", "hole:128,0,0::", "has the colour 0,128,0, which"),
    ],
)
def test_a_damaged_file_of_many_is_named(data, tmp_path, name, file, content, says):
    write, kind = BY_NAME[name]
    paths = write(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=says):
        run_import(data, kind, *paths, val_fraction=0)


def test_labels_without_a_colour_have_vocs(data, tmp_path):
    (tmp_path / "f").mkdir()
    paths = written.palette_png(tmp_path / "f")
    (tmp_path / "f/labelmap.txt").write_text("background:::\nhole:::\nscratch:::\n")
    account, _ = run_import(data, "masks", *paths, val_fraction=0, mask_value=["scratch"])
    assert account.edited == ["train/cat/a.jpg"]


# names


def test_folders_tell_images_of_one_name_apart(tmp_path):
    for image_id in ("train/cat/7", "train/dog/7", "val/cat/7", "val/dog/8", "train/dog/9"):
        save(tmp_path / f"d/{image_id}.jpg", np.zeros((32, 48, 3), np.uint8))
    box = '<box label="x" xtl="8" ytl="8" xbr="32" ybr="24"/>'
    names = ("dog\\7.jpg", "7.jpg", "C:/photos/valid/9.jpg", "horse/9.png")
    rows = "".join(f'<image id="0" name="{name}" width="48" height="32">{box}</image>' for name in names)
    path = written.write(tmp_path / "a.xml", f"<annotations>{rows}</annotations>")
    account, edits = run_import(tmp_path / "d", "cvat", path)
    assert list(edits) == ["train/dog/7.jpg", "train/dog/9.jpg"]
    assert account.unknown == ["C:/photos/valid/9.jpg"]  # another part's
    assert account.told[SEVERAL] == ["7.jpg"]


def test_nothing_found_says_what_lies_there(data, tmp_path):
    for name in ("x1", "x2"):
        save(tmp_path / "flat" / f"{name}.png", np.full((32, 48), 255, np.uint8))
    with pytest.raises(UserError, match=r"a_mask.png or a.png.*names x1, x2; .*called train/cat/a.jpg"):
        run_import(data, "masks", tmp_path / "flat", val_fraction=0)
    save(tmp_path / "png" / "task-1-annotation-2-by-1-tag-hole-0.png", np.full((32, 48), 255, np.uint8))
    with pytest.raises(UserError, match="--from label_studio FILE"):
        run_import(data, "masks", tmp_path / "png", val_fraction=0)


def test_names_that_are_not_utf8(tmp_path):
    folder = tmp_path / "d"
    written.images(folder)
    stem = os.fsdecode(b"\x83l\x83R")  # Shift-JIS
    (folder / "train/cat/a.jpg").rename(folder / f"train/cat/{stem}.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / f"labels/{stem}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    _, edits = run_import(folder, "yolo", tmp_path / "labels", val_fraction=0)
    assert list(edits) == ["train/cat/\\x83l\\x83R.jpg"]


# Label Studio


def test_of_several_annotations_the_newest_counts_and_no_prediction(data, tmp_path):
    (path,) = written.label_studio_rectangle(tmp_path)
    tasks = json.loads(path.read_text())
    old = {"id": 0, "updated_at": "2024-01-01", "result": []}
    tasks[0]["annotations"] = [tasks[0]["annotations"][0] | {"updated_at": "2025-01-01"}, old]
    tasks[1]["predictions"] = tasks[1].pop("annotations")
    path.write_text(json.dumps(tasks))
    account, _ = run_import(data, "label_studio", path, val_fraction=0, edits=str(tmp_path / "e"))
    assert account.edited == ["train/cat/a.jpg"]
    assert "predictions in Label Studio that nobody has accepted, left out: 1" in account.text()
    assert "of which their task has a newer one, left out: 1" in account.text()


MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))


@settings(deadline=None, max_examples=50)
@given(MASKS)
def test_the_brush_gives_the_mask_back(mask):
    assert np.array_equal(brush.decode(brush.encode(mask), mask.shape), mask)


def bits_of(values, sizes=(3, 4, 8, 16)):
    """A code as Label Studio's page may write it: short runs with short lengths, the rest as it is."""
    code = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    for at in range(0, len(values), 8):
        block = values[at : at + 8]
        if len(set(block)) == 1:
            code += f"100{len(block) - 1:03b}{block[0]:08b}"
        else:
            code += f"001{len(block) - 1:04b}" + "".join(f"{value:08b}" for value in block)
    return [int(code[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(code), 8)]


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 127, 128, 255])))
def test_the_brush_reads_every_kind_of_block(alpha):
    channels = np.zeros((5, 7, 4), np.uint8)
    channels[..., 3] = alpha
    assert np.array_equal(brush.decode(bits_of(channels.ravel().tolist()), (5, 7)), alpha >= 128)


def test_the_brush_agrees_with_label_studios_own(data):
    own = pytest.importorskip("label_studio_sdk.converter.brush")
    mask = np.random.default_rng(0).random((31, 47)) > 0.5
    assert np.array_equal(own.decode_rle(brush.encode(mask)).reshape(31, 47, 4)[..., 3], mask * 255)
    assert np.array_equal(brush.decode(own.mask2rle(mask * np.uint8(255)), mask.shape), mask)


# shapes


def test_a_pixel_is_marked_when_its_centre_lies_inside():
    at = np.stack(np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5), -1)
    circle = shapes.ellipse(20, 15, 8, 8)((30, 40))
    assert np.array_equal(circle, np.hypot(*(at - (20, 15)).T).T <= 8)
    assert np.array_equal(shapes.ellipse(20, 15, 8, 4, 90)((30, 40)), shapes.ellipse(20, 15, 4, 8)((30, 40)))
    box = shapes.box(4, 6, 12, 16)((30, 40))
    assert box.sum() == 80
    assert np.array_equal(shapes.box(12, 16, 4, 6)((30, 40)), box)  # drawn from the other corner
    ring = np.array([[4, 6], [12, 6], [12, 16], [4, 16]])
    assert np.array_equal(shapes.polygons([ring])((30, 40)), box)
    turned = shapes.box(12, 6, 20, 16, 90, corner=True)((30, 40))  # clockwise about (12, 6): to its left
    assert np.array_equal(turned, shapes.box(2, 6, 12, 14)((30, 40)))
    assert np.array_equal(shapes.box(4, 7, 14, 15, 90)((30, 40)), shapes.box(5, 6, 13, 16)((30, 40)))

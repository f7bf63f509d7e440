"""Gaze files become maps of where people looked, and a bad line is named."""

import numpy as np
import pytest
from helpers.cub import FILES, SIZE, TRAIN
from helpers.marked_images import block, save, stored
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmoid_vit import UserError
from sigmoid_vit.annotations.gaze import SIGMA, gaze_map, read_fixations
from sigmoid_vit.annotations.import_options import ImportOptions
from sigmoid_vit.annotations.importing import import_edits


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_gaze_is_where_people_looked_and_weighted_by_how_long(tmp_path):
    file = write(tmp_path / "gaze.txt", "7,500,400,100,50,300,400,350,150", "8,10,10,5,5,0")
    fixations = read_fixations([file])
    assert fixations["7"].tolist() == [[500, 400, 100, 50, 300], [500, 400, 400, 350, 150]]
    gaze = gaze_map(fixations["7"])
    assert gaze.shape == (400, 500)
    assert gaze.dtype == np.float32
    assert gaze.max() == 1
    assert gaze.min() >= 0
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
    assert gaze[far].sum() <= 0.01 * gaze.sum()
    assert gaze.max() == 1
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
    assert len(both["1"]) == 4
    assert list(other) == ["1", "2"]
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
def test_a_bad_line_is_named_with_its_number(tmp_path, cub_2011, line):
    file = write(tmp_path / "gaze.txt", "1,60,40,1,2,3", "", line)
    options = dict(dataset_path=str(cub_2011), val_fraction=0, grid="4x4", edits=str(tmp_path / "e.sqlite"))
    with pytest.raises(UserError, match=r"gaze\.txt, line 3 has"):
        import_edits(ImportOptions(["gaze", file], **options))
    assert not (tmp_path / "e.sqlite").exists()


def test_gaze_on_cub_by_the_numbers_of_images_txt(tmp_path, cub_2011):
    w, h = SIZE
    in_train = [FILES.index(file) + 1 for file in TRAIN]
    in_test = next(i for i in range(1, len(FILES)) if i not in in_train)
    lines = [f"{number},{w},{h},7,3,400" for number in in_train[:3]]
    lines[1] += f",{w + 1},3,90,-1,3,90"
    file = write(tmp_path / "gaze.txt", *lines, f"{in_test},{w},{h},7,3,400", "999,20,14,7,3,400")
    options = dict(dataset_path=str(cub_2011), val_fraction=0, edits=str(tmp_path / "e.sqlite"), grid="2x4")
    account = import_edits(ImportOptions(["gaze", file], **options))
    edits = stored(tmp_path / "e.sqlite")
    assert list(edits) == [f"images/{file}" for file in TRAIN[:3]]
    assert account.unknown == ["999"]
    assert account.outside == {f"images/{TRAIN[1]}": 2}
    assert f"outside their image, left out: 2 (images/{TRAIN[1]})" in account.text()
    for edit in edits.values():
        assert edit.edited.all()
        assert edit.value.argmax() == 1
        assert 0 < edit.value.max() <= 1
    assert len(account.without["missing"]) == len(TRAIN) - 3
    assert account.resized == []

    maps = tmp_path / "maps"
    for number in (in_train[4], in_test, 999):
        save(maps / f"{number}.jpg", block(0, 7, 0, 5, (14, 20)))
    account = import_edits(ImportOptions(["gaze_maps", str(maps)], **options, mask_edit="object"))
    assert account.edited == [f"images/{TRAIN[4]}"]
    assert account.unknown == ["999"]
    edit = stored(tmp_path / "e.sqlite")[f"images/{TRAIN[4]}"]
    assert np.flatnonzero(edit.edited).tolist() == [0]


def test_real_gaze_files(outside):
    files = sorted(outside("cub_gha").glob("*.txt"))
    fixations = read_fixations(files)
    assert sum(map(len, fixations.values())) == 2842 + 2544
    assert len(fixations) > 390
    for rows in fixations.values():
        gaze = gaze_map(rows)
        assert gaze.max() == 1
        assert gaze.shape == (rows[0, 1], rows[0, 0])
        at_fixations = gaze[rows[:, 3].astype(int), rows[:, 2].astype(int)]
        assert np.average(at_fixations, weights=rows[:, 4]) > max(0.3, 5 * gaze.mean())

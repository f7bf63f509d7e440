"""Of a file, predict.py says what evaluate.py says, whatever lies beside it; each file has its row."""

import csv
import json

import numpy as np
import pytest
import torch
from helpers.images import save_image
from helpers.pictures import not_blank
from PIL import Image

from sigmoid_vit import UserError
from sigmoid_vit.deployment.image_files import find_images
from sigmoid_vit.deployment.predict import PredictOptions, predict
from sigmoid_vit.edits.store import EditStore, StoredEdit
from sigmoid_vit.evaluation.evaluate import evaluate_run
from sigmoid_vit.model.edit import AttentionEdit
from sigmoid_vit.runs.network import Network


def table(folder):
    with (folder / "predictions.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def predicted(run, *images, out, **options):
    predict(PredictOptions(run=str(run.folder), images=[str(i) for i in images], out=str(out), **options))
    return table(out)


def probabilities(row):
    return [float(value) for name, value in row.items() if name.startswith("p(")]


@pytest.mark.parametrize("kind", ["equal_sizes", "various_sizes"])
def test_predictions_are_those_of_evaluate_for_all_images_and_for_one_alone(kind, request, tmp_path):
    run = request.getfixturevalue(kind)
    evaluate_run(run.folder, "test", errors=0, faithfulness=0, decision_maps=0)
    expected = {row["id"]: row for row in table(run.folder / "evaluation")}
    data = run.folder.parent / "data"
    rows = predicted(run, data / "test", out=tmp_path / "all")
    first = next((data / "test" / run.classes[0]).iterdir())
    rows += predicted(run, first, out=tmp_path / "one")
    assert len(rows) == len(expected) + 1
    for row in rows:
        same = expected[row["image"].removeprefix(f"{data}/")]
        assert row["prediction"] == same["prediction"]
        assert probabilities(row) == pytest.approx(probabilities(same), abs=2e-6)
        assert float(row["probability"]) == max(probabilities(row))
        assert not row["error"]


def test_files_that_cannot_be_read_are_named_and_the_others_predicted(equal_sizes, tmp_path, capsys):
    good, broken = save_image(tmp_path / "in/good.png"), tmp_path / "in/broken.jpg"
    broken.write_bytes(b"no image")
    (tmp_path / "list.txt").write_text(f"{good}\n\n{tmp_path}/in/gone.png\n{tmp_path}/in\n")
    told = predict(
        PredictOptions(
            run=str(equal_sizes.folder), images=[f"@{tmp_path}/list.txt"], out=str(tmp_path / "out")
        )
    )
    assert "predictions of 1 images; 2 files could not be read" in told.text()
    said = capsys.readouterr().err
    assert f"not read: {broken}: not a readable image" in said
    assert f"not read: {tmp_path}/in/gone.png" in said
    rows = table(tmp_path / "out")
    assert [row["image"].rpartition("/")[2] for row in rows] == ["good.png", "gone.png", "broken.jpg"]
    assert [bool(row["error"]) for row in rows] == [False, True, True]
    assert (tmp_path / "out/predictions.csv").read_bytes().startswith(b"\xef\xbb\xbf")  # Excel: 傷
    lines = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert [line.get("error", "") for line in lines] == [row["error"] for row in rows]
    assert list(lines[0]["probabilities"].values()) == probabilities(rows[0])
    with pytest.raises(UserError, match=r"none of the 1 files can be read, the first: .*broken"):
        predicted(equal_sizes, broken, out=tmp_path / "none")
    with pytest.raises(UserError, match="holds predictions already"):
        predicted(equal_sizes, good, out=tmp_path / "out")


def test_images_are_found_in_folders_by_patterns_and_in_lists(tmp_path, capsys):
    for name in ("b/2.png", "b/1.jpg", "a.png", "b/1_mask.png"):
        save_image(tmp_path / name)
    (tmp_path / "b/notes.txt").write_text("")
    (tmp_path / "list.txt").write_text("\ufeff" + f"{tmp_path}/a.png\n{tmp_path}/b/*.png\n", encoding="utf-8")

    def names(*given):
        return [str(file.relative_to(tmp_path)) for file in find_images([str(tmp_path / g) for g in given])]

    assert names("b", "a.png") == ["b/1.jpg", "b/2.png", "a.png"]  # a mask is no image
    assert "2 other files are not used" in capsys.readouterr().err
    assert names("**/*.png", "a.png") == ["a.png", "b/1_mask.png", "b/2.png"]
    assert find_images([f"@{tmp_path}/list.txt"]) == find_images([f"{tmp_path}/a.png", f"{tmp_path}/b/*.png"])
    (tmp_path / "of_a_list.txt").write_text("@list.txt\n")  # not followed, and not left out: it is unreadable
    assert list(map(str, find_images([f"@{tmp_path}/of_a_list.txt"]))) == ["@list.txt"]
    (tmp_path / "empty").mkdir()
    for given, says in (("empty", "there is no image in"), ("*.tif", "no file matches")):
        with pytest.raises(UserError, match=says):
            names(given)
    with pytest.raises(UserError, match=r"the list .* cannot be read"):
        find_images([f"@{tmp_path}/none.txt"])


def test_a_standing_edit_is_in_force_on_every_image(equal_sizes, tmp_path):
    files = [save_image(tmp_path / f"in/{i}.png", (20, 20), seed=i) for i in range(3)]
    mask = np.full((40, 40), 255, np.uint8)
    mask[:10, 10:20] = 0  # the cell in row 0, column 1 of 4 x 4
    Image.fromarray(mask).save(tmp_path / "mask.png")
    value, edited = np.zeros((4, 4), np.float32), np.zeros((4, 4), bool)
    edited[0, 1] = True
    with EditStore(tmp_path / "edits.sqlite") as store:
        store.save(StoredEdit("train/a.png", "", value, edited, "me"))
    own = predicted(equal_sizes, *files, out=tmp_path / "own")
    masked = predicted(equal_sizes, *files, out=tmp_path / "m", edit=str(tmp_path / "mask.png"))
    by_id = dict(edit="train/a.png", edits=str(tmp_path / "edits.sqlite"))
    stored = predicted(equal_sizes, *files, out=tmp_path / "s", **by_id, decision_maps=True)
    network = Network.of_run(equal_sizes)
    edit = AttentionEdit(torch.from_numpy(value)[None], torch.from_numpy(edited)[None])
    inputs = network.transform(torch.stack([network.pixels(f) for f in files]), torch.arange(3))
    with torch.no_grad():
        expected = network.model(inputs, edit=edit).softmax(1).tolist()
    for before, one, other, p in zip(own, masked, stored, expected, strict=True):
        assert probabilities(one) == probabilities(other) == pytest.approx(p, abs=2e-6)
        assert probabilities(one) != probabilities(before)
    lines = [json.loads(line) for line in (tmp_path / "s/predictions.jsonl").read_text().splitlines()]
    assert all(not_blank(tmp_path / "s" / line["decision_map"]) for line in lines)


@pytest.mark.parametrize(
    "options, says",
    [
        (dict(edit="none.png"), "there is no mask none.png"),
        (dict(edit="black.png"), "erases every cell; in a mask, white is what stays, black is erased"),
        (dict(edit="white.png"), "edits no cell"),
        (dict(edit="train/b.png", edits="e.sqlite"), "has no edit of an image train/b.png; it has no edit"),
        (dict(edits="e.sqlite"), "--edits is given without --edit"),
    ],
)
def test_a_standing_edit_that_makes_no_sense_is_refused(equal_sizes, tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    for name, shade in (("black", 0), ("white", 255)):
        Image.new("L", (20, 20), shade).save(f"{name}.png")
    EditStore("e.sqlite").close()
    with pytest.raises(UserError, match=says):
        predicted(equal_sizes, save_image(tmp_path / "in/a.png"), out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()

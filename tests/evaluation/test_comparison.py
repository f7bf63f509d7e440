"""Two runs on the same images: what changed is what their own predictions say, every picture is of now."""

import csv
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from helpers.pictures import not_blank
from helpers.reference import tiny_model
from helpers.runs import settings
from sigmoid_vit.pictures.comparison_MISSING import _change_texts, _who_looks

from sigmoid_vit import UserError, answers, plots
from sigmoid_vit.evaluation.comparison import mcnemar
from sigmoid_vit.evaluation.evaluate import evaluate_run, report
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.training.trainer import Trainer

NO_CLASS_TOKEN = {"class_token": False, "global_pool": "avg"}


def train(folder, name, *args):
    Trainer(settings(folder, "--runs_name", name, "--epochs", "1", *args)).fit()
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs of one seed with other networks, image sizes and patch grids (6x6 and 4x4)."""
    folder = tmp_path_factory.mktemp("comparison")
    train(folder, "after", "--epochs", "3")
    small = ["patch_size=8", "embed_dim=32", "depth=1", "num_heads=2"]
    train(folder, "before", "--img_size", "32", "--model_kwargs", *small)
    return folder


def outcomes(both_right, fixed, broken, both_wrong):
    """Right or wrong before and after, bool [n] each, with so many images of each kind."""
    before = [True] * both_right + [False] * fixed + [True] * broken + [False] * both_wrong
    after = [True] * (both_right + fixed) + [False] * (broken + both_wrong)
    return torch.tensor(before), torch.tensor(after)


def test_mcnemar_on_paper():
    """1 against 9 of 10: two tails of (C(10,0) + C(10,1)) / 2^10."""
    assert mcnemar(*outcomes(40, 9, 1, 7)) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(*outcomes(0, 1, 9, 0)) == pytest.approx(22 / 1024)  # other images and direction: the same
    assert mcnemar(*outcomes(3, 5, 0, 2)) == pytest.approx(2 / 2**5)
    assert mcnemar(*outcomes(5, 4, 4, 5)) == mcnemar(*outcomes(6, 0, 0, 4)) == 1


def test_changes_on_paper():
    """Of two classes, all images of class 0: three fixed, two broken, one right and one wrong both times."""
    before = torch.tensor([0.4, 0.1, 0.3, 0.9, 0.7, 0.8, 0.2])
    after = torch.tensor([0.6, 0.7, 0.8, 0.4, 0.1, 0.9, 0.3])
    p_before, p_after = (torch.stack([p, 1 - p], dim=1) for p in (before, after))
    labels, ids = torch.zeros(7, dtype=torch.long), list("abcdefg")
    result = compare_answers(p_before, p_after, labels, ids)
    assert result["fixed"] == ["b", "c", "a"]  # gains 0.6, 0.5, 0.2
    assert result["broken"] == ["e", "d"]  # losses 0.6, 0.5
    assert (result["n"], result["both_right"], result["both_wrong"]) == (7, 1, 1)
    assert result["accuracy"] == {"run": 4 / 7, "against": 3 / 7}
    assert result["mcnemar_p"] == 1  # 2 against 3 is the middle of the distribution
    back = compare_answers(p_after, p_before, labels, ids)
    assert (back["fixed"], back["broken"]) == (result["broken"], result["fixed"])


def compare(after, before, split=None, which="best", shown=6):
    """What a run's evaluation says of the run before; errors and hits of the run itself are pictured, too."""
    found = evaluate_run(after, split, which, errors_shown=shown, faithfulness=0, against=before)
    return found["comparison"]


def right_answers(run):
    evaluate_run(run, "test", errors_shown=0, faithfulness=0)
    rows = csv.DictReader((run / "evaluation/predictions.csv").open())
    return {row["id"]: row["prediction"] == row["label"] for row in rows}


def test_two_runs_are_compared_on_the_same_images(folder):
    after, before = folder / "after", folder / "before"
    result = compare(after, before)
    out = after / "evaluation/against_before"
    assert json.loads((out / "comparison.json").read_text()) == {
        name: value for name, value in result.items() if name != "folder"
    }
    assert result["folder"] == str(out) and result["split"] == "test"
    now, then = right_answers(after), right_answers(before)
    assert set(result["fixed"]) == {i for i in now if now[i] and not then[i]}
    assert set(result["broken"]) == {i for i in now if then[i] and not now[i]}
    assert result["fixed"] and result["broken"]
    assert result["both_right"] == sum(now[i] and then[i] for i in now)
    assert result["accuracy"] == {"run": sum(now.values()) / 500, "against": sum(then.values()) / 500}
    for name in ("outcomes", "fixed", "broken"):
        assert not_blank(out / f"{name}.png") and (out / f"{name}.pdf").stat().st_size > 1000


def test_pictures_of_an_earlier_comparison_go(folder):
    out = folder / "before/evaluation/test_clean/last/against_after"
    result = compare(folder / "before", folder / "after", "test_clean", "last")
    assert result["folder"] == str(out) and result["fixed"] and result["broken"]
    always = {"comparison.json", "outcomes.png", "outcomes.pdf"}
    pictures = {"fixed.png", "fixed.pdf", "broken.png", "broken.pdf"}
    assert {path.name for path in out.iterdir()} == {*always, *pictures}
    compare(folder / "before", folder / "after", "test_clean", "last", shown=0)
    assert {path.name for path in out.iterdir()} == always


def changed(folder, name, change):
    """A copy of the run "before" with a changed config.json."""
    copy = folder / name
    copy.mkdir()
    shutil.copy(folder / "before/best.pt", copy)
    config = json.loads((folder / "before/config.json").read_text())
    change(config)
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def test_evaluation_and_comparison_are_told_apart(folder):
    """One evaluation writes both; metrics.json is the same as without a run before."""
    after, before = folder / "after", folder / "before"
    alone = evaluate_run(after, errors_shown=0, faithfulness=0)
    written = (after / "evaluation/metrics.json").read_bytes()
    both = evaluate_run(after, errors_shown=0, faithfulness=0, against=before)
    assert (after / "evaluation/metrics.json").read_bytes() == written
    change = both.pop("comparison")
    assert both == alone and "comparison" not in alone
    assert change["accuracy"]["run"] == pytest.approx(both["top1"])
    told, lines = report(after, alone), report(after, {**both, "comparison": change})
    assert lines[: len(told)] == told and len(lines) == len(told) + 2
    assert f"{len(change['fixed'])} fixed, {len(change['broken'])} broken" in lines[-2]
    assert lines[-1] == f"what changed: {change['folder']}"


def test_every_image_is_predicted_once_by_each_network(folder, monkeypatch):
    asked = []
    predict = answers.predict
    monkeypatch.setattr(answers, "predict", lambda model, *args: asked.append(model) or predict(model, *args))
    compare(folder / "after", folder / "before", shown=2)
    assert len(asked) == 2 and asked[0] is not asked[1]


def test_runs_that_cannot_be_compared_are_refused(folder, monkeypatch):
    after = folder / "after"
    other_set = changed(folder, "other_set", lambda c: c["settings"].update(dataset="cifar10"))
    other_classes = changed(folder, "other_classes", lambda c: c["classes"].reverse())
    other_seed = changed(folder, "other_seed", lambda c: c["settings"].update(seed=1))
    stopped = changed(folder, "stopped", lambda c: None)
    (stopped / "best.pt").unlink()
    before = {path: path.stat().st_mtime_ns for path in after.rglob("*")}
    for against, split, says in (
        (other_set, None, r"after was trained on digits_decoy but .*other_set on cifar10; only runs on the"),
        (other_classes, None, r"different classes; only runs on the same data set"),
        (other_seed, "val", r"val parts of .*after and .*other_seed hold different images.*SEED"),
        (folder / "before", "holdout", r"no part 'holdout'.*test_train_like"),
        (folder / "nothing", None, "nothing is not a run"),
        (stopped, None, r"stopped has no best\.pt.*RESUME=true.*--against \(COMPARE_WITH in the notebook\)"),
        (folder / "after/../after", None, "compared with itself"),
    ):
        with monkeypatch.context() as context, pytest.raises(UserError, match=says):
            context.setattr(answers, "predict", None)  # before anything is predicted
            compare(after, against, split)
    assert before == {path: path.stat().st_mtime_ns for path in after.rglob("*")}
    assert compare(after, other_seed, shown=0)["n"] == 500  # the test part is the same for every seed
    assert compare(after, folder / "before", "val", shown=0)["n"] == 130  # and val for the same seed


def test_both_networks_are_shown_the_same_images(folder, monkeypatch):
    """The picture holds what each network itself computes: its own grid, on the scale 0..1."""
    seen = {}

    def look(images, before, after, texts, title, **about):
        seen.setdefault("fixed" if "fixed" in title else "broken", (images, before, after, texts))
        return plots_before_after(images, before, after, texts, title, **about)

    plots_before_after = plots.before_after
    monkeypatch.setattr(plots, "before_after", look)
    result = compare(folder / "after", folder / "before", shown=2)
    images, before, after, texts = seen["fixed"]
    assert before.shape == (2, 4, 4) and after.shape == (2, 6, 6) and images.shape == (2, 3, 24, 24)
    assert [text.splitlines()[0] for text in texts] == result["fixed"][:2]
    x = (images.float() / 255 - 0.5) / 0.5  # the model's own mean and standard deviation
    model = Run(folder / "after").load_model()
    with torch.no_grad():
        class_logits, logits = model.forward_with_attention(x)
    expected = logits[2][:, :, 0, 1:].sigmoid().mean(1).unflatten(1, (6, 6))
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=0)
    for text, p in zip(texts, class_logits.softmax(1), strict=True):
        assert f"after: {p.argmax()} ({p.max():.0%})" in text


def test_whose_attention_is_shown_is_named_of_both_networks():
    networks = [SimpleNamespace(model=tiny_model(**kwargs)) for kwargs in ({}, NO_CLASS_TOKEN)]
    with_token, without = networks
    assert _who_looks(None, without) == _who_looks(without, without) == "mean over all patches"
    assert _who_looks(with_token, with_token) == "class token"
    both = "before: class token, after: mean over all patches"
    assert _who_looks(with_token, without) == both
    one = torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.rand(1, 3, 3), torch.rand(1, 3, 3), ["a"]
    assert both in plots.before_after(*one, looks=both).get_suptitle().replace("\n", " ")


def test_long_class_names_are_shortened_beside_the_rows():
    part = SimpleNamespace(ids=["a.png"], classes=["001.Black_footed_Albatross", "ハシブトガラスの雌の成鳥"])
    found = [
        SimpleNamespace(
            part=SimpleNamespace(part=part), probabilities=torch.tensor([p]), labels=torch.tensor([0])
        )
        for p in ([0.9, 0.1], [0.2, 0.8])
    ]
    (text,) = _change_texts(*found, [0])
    lines = ["a.png", "before: 001.Black_footed_Al… (90%)", "after: ハシブトガラスの雌… (80%)"]
    assert text.splitlines() == [*lines, "true: 001.Black_footed_Al… (90% → 20%)"]
    expected = "a.png\nanswer ハシブトガラスの雌… (80%)\ntrue 001.Black_footed_Al… (20%)"
    assert answers.answer_text("a.png", torch.tensor([0.2, 0.8]), 0, part.classes) == expected


def test_the_edit_is_drawn_between_before_and_after(tmp_path):
    g = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2, 3, 12, 12), generator=g, dtype=torch.uint8)
    before, after, value = torch.rand(3, 2, 3, 3, generator=g)
    edited = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 1]]).bool().repeat(2, 1, 1)
    texts = ["ハシブトガラス\nbefore: 001.Black_footed_Albatross_with_a_long_name (97%)", "test/1"]
    figure = plots.before_after(images, before, after, texts, "前 against 後", (value, edited))
    *maps, scale = figure.axes
    assert [ax.get_title() for ax in maps[:4]] == ["image", "attention before", "edit", "attention after"]
    assert len(maps) == 8 and scale.get_ylim() == (0, 1)
    for row, i in ((maps[:4], 0), (maps[4:], 1)):
        assert all(ax.images[0].get_clim() == (0, 1) for ax in row[1:])
        for ax, values in ((row[1], before), (row[3], after)):
            assert (ax.images[0].get_array() == values[i].numpy()).all()
        shown = row[2].images[0].get_array()
        assert (shown.mask == ~edited[i].numpy()).all() and row[2].patch.get_hatch()
        assert (shown.compressed() == value[i][edited[i]].numpy()).all()
    plots.save(figure, tmp_path / "edits")
    assert not_blank(tmp_path / "edits.png")
    assert len(plots.before_after(images[:1], before[:1], after[:1], texts[:1]).axes) == 4

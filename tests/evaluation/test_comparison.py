"""Two runs on the same images: what changed is what their own predictions say, every picture is of now."""

import csv
import json
import shutil

import pytest
import torch
from helpers.pictures import not_blank
from helpers.step2 import prepared

from sigmoid_vit import UserError, decision_map
from sigmoid_vit.evaluation.comparison import compare_predictions
from sigmoid_vit.evaluation.evaluate import evaluate_run, report
from sigmoid_vit.evaluation.paired import mcnemar
from sigmoid_vit.figures import two_runs
from sigmoid_vit.files import sealed, write_json
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs of one seed with other networks, image sizes and patch grids (6x6 and 4x4)."""
    folder = tmp_path_factory.mktemp("comparison")
    small = ["--img_size", "32", "--model_kwargs", "patch_size=8", "embed_dim=32", "depth=1", "num_heads=2"]
    prepared(folder, "--runs_name", "after", "--epochs", "3").fit()
    prepared(folder, "--runs_name", "before", "--epochs", "1", *small).fit()
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
    assert mcnemar(*outcomes(5, 4, 4, 5)) == 1
    assert mcnemar(*outcomes(6, 0, 0, 4)) == 1


def test_changes_on_paper():
    """Of two classes, all images of class 0: three fixed, two broken, one right and one wrong both times."""
    before = torch.tensor([0.4, 0.1, 0.3, 0.9, 0.7, 0.8, 0.2])
    after = torch.tensor([0.6, 0.7, 0.8, 0.4, 0.1, 0.9, 0.3])
    p_before, p_after = (torch.stack([p, 1 - p], dim=1) for p in (before, after))
    labels, ids = torch.zeros(7, dtype=torch.long), list("abcdefg")
    result = compare_predictions(p_before, p_after, labels, ids)
    assert result["fixed"] == ["b", "c", "a"]  # gains 0.6, 0.5, 0.2
    assert result["broken"] == ["e", "d"]  # losses 0.6, 0.5
    assert (result["n"], result["both_right"], result["both_wrong"]) == (7, 1, 1)
    assert result["accuracy"] == {"run": 4 / 7, "against": 3 / 7}
    assert result["mcnemar_p"] == 1  # 2 against 3 is the middle of the distribution
    back = compare_predictions(p_after, p_before, labels, ids)
    assert (back["fixed"], back["broken"]) == (result["broken"], result["fixed"])


def compare(after, before, split=None, checkpoint="best", shown=1):
    """What a run's evaluation says of the run before; errors and hits of the run itself are pictured, too."""
    options = dict(checkpoint=checkpoint, errors=shown, faithfulness=0, decision_maps=0, against=str(before))
    return evaluate_run(after, split, **options)["comparison"]


def right_predictions(run):
    """Image id -> whether the run's prediction is right."""
    evaluate_run(run, "test", errors=0, faithfulness=0, decision_maps=0)
    rows = csv.DictReader((run / "evaluation/predictions.csv").open())
    return {row["id"]: row["prediction"] == row["label"] for row in rows}


def test_two_runs_are_compared_on_the_same_images(folder):
    after, before = folder / "after", folder / "before"
    result = compare(after, before)
    out = after / "evaluation/against_before"
    assert json.loads((out / "comparison.json").read_text()) == {
        name: value for name, value in result.items() if name != "folder"
    }
    assert result["folder"] == str(out)
    assert result["split"] == "test"
    now, then = right_predictions(after), right_predictions(before)
    assert set(result["fixed"]) == {i for i in now if now[i] and not then[i]} != set()
    assert set(result["broken"]) == {i for i in now if then[i] and not now[i]} != set()
    assert result["both_right"] == sum(now[i] and then[i] for i in now)
    assert result["accuracy"] == {"run": sum(now.values()) / 500, "against": sum(then.values()) / 500}
    for name in ("outcomes", "fixed", "broken"):
        assert not_blank(out / f"{name}.png"), name
        assert (out / f"{name}.pdf").stat().st_size > 1000, name


@pytest.mark.slow
def test_pictures_of_an_earlier_comparison_go(folder):
    out = folder / "before/evaluation/test_clean/last/against_after"
    result = compare(folder / "before", folder / "after", "test_clean", "last")
    assert result["folder"] == str(out)
    always = {"comparison.json", "outcomes.png", "outcomes.pdf"}
    pictures = {"fixed.png", "fixed.pdf", "broken.png", "broken.pdf"}
    assert {path.name for path in out.iterdir()} == {*always, *pictures}
    compare(folder / "before", folder / "after", "test_clean", "last", shown=0)
    assert {path.name for path in out.iterdir()} == always


@pytest.mark.slow
def test_a_comparison_leaves_the_evaluation_as_it_is(folder):
    """One evaluation writes both; metrics.json is the same as without a run before."""
    after, before = folder / "after", folder / "before"
    alone = evaluate_run(after, errors=0, faithfulness=0, decision_maps=0)
    written = (after / "evaluation/metrics.json").read_bytes()
    both = evaluate_run(after, errors=0, faithfulness=0, decision_maps=0, against=str(before))
    assert (after / "evaluation/metrics.json").read_bytes() == written
    change = both.pop("comparison")
    assert both == alone
    assert change["accuracy"]["run"] == pytest.approx(both["top1"])
    lines, more = report(alone), report({**both, "comparison": change})
    assert more[:-3] == lines
    assert f"{len(change['fixed'])} fixed, {len(change['broken'])} broken" in more[-3]
    assert more[-1] == f"what changed: {change['folder']}"


@pytest.mark.slow
def test_every_image_is_predicted_once_by_each_network(folder, monkeypatch):
    networks, logits = [], Network.logits
    monkeypatch.setattr(Network, "logits", lambda self, *args: networks.append(self) or logits(self, *args))
    compare(folder / "after", folder / "before", shown=2)
    assert [network.name for network in networks] == ["after", "before"]


def changed(folder, name, change):
    """A copy of the run "before" with a changed config.json."""
    copy = folder / name
    copy.mkdir()
    shutil.copy(folder / "before/best.pt", copy)
    config = Run(folder / "before").facts()
    change(config)
    write_json(copy / "config.json", sealed(config))
    shutil.copy(folder / "before/images.csv", copy)
    return copy


def test_runs_that_cannot_be_compared_are_refused(folder, monkeypatch):
    after = folder / "after"
    other_set = changed(folder, "other_set", lambda c: c["settings"].update(dataset="cifar10"))
    other_classes = changed(folder, "other_classes", lambda c: c["classes"].reverse())
    other_seed = changed(
        folder, "other_seed", lambda c: c.pop("images_sha256") and c["settings"].update(seed=1)
    )
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
            context.setattr(Network, "logits", None)  # before anything is predicted
            compare(after, against, split)
    assert before == {path: path.stat().st_mtime_ns for path in after.rglob("*")}
    assert compare(after, other_seed, shown=0)["n"] == 500  # the test part is the same for every seed
    assert compare(after, folder / "before", "val", shown=0)["n"] == 130  # and val for the same seed


def test_both_networks_are_shown_the_same_images(folder, monkeypatch):
    """The picture holds what each network itself computes: its own grid, on the scale 0..1."""
    drawn, draw = [], two_runs.draw_before_after
    monkeypatch.setattr(
        two_runs, "draw_before_after", lambda *args, **about: drawn.append(args) or draw(*args, **about)
    )
    result = compare(folder / "after", folder / "before", shown=2)
    images, before, after, texts, title = drawn[0]
    assert "fixed" in title
    assert [each.shape for each in before[:2]] == [(2, 4, 4)] * 2
    assert [each.shape for each in after[:2]] == [(2, 6, 6)] * 2
    assert images.shape == (2, 3, 24, 24)
    assert [text.splitlines()[0] for text in texts] == result["fixed"][:2]
    x = (images.float() / 255 - 0.5) / 0.5  # the model's own mean and standard deviation
    network = Network.of_run(Run(folder / "after"))
    with torch.no_grad():
        class_logits, logits = network.model.forward_with_attention(x.to(network.device))
    expected = logits[2][:, :, 0, 1:].sigmoid().mean(1).unflatten(1, (6, 6))
    torch.testing.assert_close(after.attention, expected.cpu(), atol=1e-5, rtol=0)
    effect = decision_map(network.model, x.to(network.device)).cpu()
    torch.testing.assert_close(after.decision, effect, atol=1e-4, rtol=0)
    for text, p in zip(texts, class_logits.softmax(1), strict=True):
        assert f"after: {p.argmax()} ({p.max():.0%})" in text

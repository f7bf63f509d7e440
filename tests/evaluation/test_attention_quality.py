"""How good attention is: each figure on paper, a uniform map at chance, only what people marked counted."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.pictures import not_blank
from helpers.reference import materialised, tiny_model
from helpers.runs import train
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import auc, jaccard_score

from sigmoid_vit import UserError
from sigmoid_vit import attention_quality as quality
from sigmoid_vit.annotations.cells import cell_means
from sigmoid_vit.annotations.marked import (
    cover_of_edits,
    cover_of_masks,
    epg,
    iou,
    marked_cells,
    pointing_game,
)
from sigmoid_vit.annotations.selection import stratified
from sigmoid_vit.annotations.sources import Source
from sigmoid_vit.data import BatchTransform, ink_grid, load_data
from sigmoid_vit.edits.maps import EditMaps
from sigmoid_vit.edits.store import EditStore, StoredEdit
from sigmoid_vit.evaluation.attention_quality import hide_cells
from sigmoid_vit.evaluation.evaluate import evaluate_run
from sigmoid_vit.model.readout import rollout, sigmoid_attention

MAP = torch.tensor([[0.5, 0.3], [0.2, 0.0]])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("quality"), "--epochs", "1")


@pytest.fixture(scope="module")
def digits():
    return load_data("digits_decoy", None, 0.1, 0, False)


def save_masks(folder, masks):
    for image_id, mask in masks.items():
        path = folder / f"{image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * mask).astype(np.uint8)).save(path)


# figures against masks


def test_figures_on_paper():
    maps = MAP.repeat(3, 1, 1)
    cover = torch.tensor([[[0.5, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]], [[0.0, 0.1], [0.1, 0.1]]])
    assert pointing_game(maps, cover).tolist() == [1, 0, 0]
    # 0.5 x 0.5 + 0.2 of 1.0; nothing; 0.1 x 0.3 + 0.1 x 0.2
    assert epg(maps, cover).tolist() == pytest.approx([0.45, 0.0, 0.05])
    # cells at 0.3 or more: the upper two; the sliver of 0.1 counts as inside
    assert iou(maps, cover, 0.3).tolist() == pytest.approx([1 / 3, 0.0, 1 / 4])
    assert iou(maps, cover, 0.6).tolist() == [0.0, 0.0, 0.0]


def test_equally_strong_cells_share_the_point():
    maps = torch.tensor([[[0.4, 0.4], [0.1, 0.4]]])
    assert pointing_game(maps, torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])).item() == pytest.approx(1 / 3)


@settings(max_examples=30, deadline=None)
@given(gh=st.integers(1, 6), gw=st.integers(1, 6), seed=st.integers(0, 99), scale=st.floats(0.5, 9))
def test_a_uniform_map_has_the_chance_level_and_any_map_agrees_with_scikit_learn(gh, gw, seed, scale):
    g = torch.Generator().manual_seed(seed)
    cover = (torch.rand(2, gh, gw, generator=g) - 0.5).clamp(min=0)
    cover[:, 0, 0] = 1
    uniform, inside = torch.full_like(cover, scale), (cover > 0).float().mean((1, 2))
    torch.testing.assert_close(pointing_game(uniform, cover), inside)
    torch.testing.assert_close(epg(uniform, cover), cover.mean((1, 2)))
    torch.testing.assert_close(iou(uniform, cover), inside)
    maps = torch.rand(2, gh, gw, generator=g)
    for one, mask, value in zip(maps, cover, iou(maps, cover), strict=True):
        expected = jaccard_score((mask > 0).flatten().numpy(), (one >= 0.5).flatten().numpy())
        assert value.item() == pytest.approx(expected)
    torch.testing.assert_close(epg(scale * maps, cover), epg(maps, cover))
    assert torch.equal(pointing_game(scale * maps, cover), pointing_game(maps, cover))


# views


def test_rollout_on_paper_and_against_the_plain_product():
    one = torch.tensor([[[0.2, 0.8], [0.5, 0.5]]])
    torch.testing.assert_close(rollout([one], slice(0, 1)), torch.tensor([[0.6, 0.4]]))
    two = torch.tensor([[[1.0, 0.0], [0.4, 0.6]]])  # [1, 0; 0.2, 0.8] after [0.6, 0.4; 0.25, 0.75]
    torch.testing.assert_close(rollout([one, two], slice(0, 1)), torch.tensor([[0.6, 0.4]]))
    torch.testing.assert_close(rollout([two, one], slice(0, 1)), torch.tensor([[0.68, 0.32]]))
    layers = [torch.randn(2, 5, 5).softmax(-1) for _ in range(3)]
    mixed = [(layer + torch.eye(5)) / 2 for layer in layers]
    product = mixed[2] @ mixed[1] @ mixed[0]
    torch.testing.assert_close(rollout(layers, slice(0, 1)), product[:, 0])
    torch.testing.assert_close(rollout(layers, slice(1, None)), product[:, 1:].mean(1))


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"reg_tokens": 2},
        {"class_token": False, "global_pool": "avg"},
        {"class_token": False, "global_pool": "avg", "reg_tokens": 2},
    ],
)
def test_views_are_those_of_the_network_written_out(kwargs):
    model, images = tiny_model(**kwargs), torch.randn(2, 3, 32, 32)
    class_logits, views = attention_views(model, images)
    expected, logits, attention = materialised(model, images)
    torch.testing.assert_close(class_logits, expected, atol=1e-5, rtol=1e-4)
    prefix = kwargs.get("reg_tokens", 0) + kwargs.get("class_token", True)
    rows = slice(0, 1) if kwargs.get("class_token", True) else slice(prefix, None)

    def seen(x):  # [B, H, N, N]
        return x[:, :, rows, prefix:].mean((1, 2)).unflatten(-1, (4, 4))

    product = torch.eye(prefix + 16)
    for i in range(3):
        torch.testing.assert_close(views.sigmoid[:, i], seen(logits[i].sigmoid()), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(views.softmax[:, i], seen(attention[i]), atol=1e-5, rtol=1e-4)
        product = (attention[i].mean(1) + torch.eye(prefix + 16)) / 2 @ product
    torch.testing.assert_close(views.rollout, seen(product[:, None]), atol=1e-5, rtol=1e-4)
    shown = sigmoid_attention(model, images)[1].mean(1)
    torch.testing.assert_close(shown, views.sigmoid[:, -1], atol=1e-5, rtol=1e-4)


# insertion and deletion


class ReadsOneCell:
    """Says class 1 with probability 0.8 when the lower left cell of 2 x 2 is there, else with 0.2."""

    patch_embed = SimpleNamespace(patch_size=(2, 3))

    def __call__(self, images):
        there = images[:, 0, 2:4, :3].abs().amin((1, 2)) > 0
        p = torch.where(there, 0.8, 0.2)
        return torch.stack([(1 - p).log(), p.log()], 1)


@pytest.mark.parametrize("right", [True, False])
def test_curves_on_paper(right):
    maps = torch.tensor([[[0.3, 0.2], [0.9, 0.1]]])
    maps, images, one = (maps if right else 1 - maps), torch.ones(1, 3, 4, 6), torch.tensor([1])

    def curve(insert):
        return quality.probability_curve(ReadsOneCell(), images, maps, one, range(5), insert)[0].tolist()

    k = 1 if right else 4  # the cell that decides is the first to be touched, or the last
    deletion, insertion = curve(insert=False), curve(insert=True)
    assert deletion == pytest.approx([0.8] * k + [0.2] * (5 - k))
    assert insertion == pytest.approx([0.2] * k + [0.8] * (5 - k))
    share = np.linspace(0, 1, 5)  # 0.8 to 0.2 within the first quarter, or within the last
    assert auc(share, deletion) == pytest.approx(0.275 if right else 0.725)
    assert auc(share, insertion) == pytest.approx(0.725 if right else 0.275)


def test_hidden_cells_are_their_pixels_alone():
    images, shown = torch.ones(1, 3, 5, 6), torch.tensor([[[True, False], [False, True]]])
    expected = torch.ones(5, 6)  # cells of 2 x 3; no patch reads the fifth row
    expected[:2, 3:], expected[2:4, :3] = 0, 0
    assert torch.equal(hide_cells(images, shown, (2, 3)), expected.expand(1, 3, 5, 6))
    assert (images == 1).all()
    padded = hide_cells(torch.ones(1, 3, 3, 6), shown, (2, 3))  # the network pads it to 4 rows
    assert padded[0, 0].tolist() == [[1, 1, 1, 0, 0, 0]] * 2 + [[0, 0, 0, 1, 1, 1]]


# what people marked


def test_empty_and_missing_masks_are_not_counted(digits):
    part = digits.train.subset(range(4))
    half = np.zeros((24, 24), np.float32)
    half[:, :10], half[0, 23] = 1, 0.4  # the last pixel is below what counts as marked
    maps = [half, np.full((24, 24), 0.4, np.float32), None, np.ones((24, 24), np.float32)]
    covers = cover_of_masks(Source(lambda i: maps[i], ""), part, (2, 2))
    assert covers[0] == pytest.approx(np.array([[10 / 12, 0], [10 / 12, 0]])) and (covers[3] == 1).all()
    assert sorted(covers) == [0, 3]


def test_what_an_edit_means():
    value = torch.tensor([[[0.9, 0.2, 0.5]], [[0.0, 0.0, 0.0]], [[0.9, 0.9, 0.9]], [[0.1, 0.0, 0.2]]])
    edited = torch.tensor([[[1, 1, 1]], [[0, 1, 0]], [[0, 0, 0]], [[1, 1, 1]]], dtype=torch.bool)
    edited[0, 0, 2] = False
    covers = {i: cover.tolist() for i, cover in cover_of_edits(EditMaps(value, edited)).items()}
    assert covers == {0: [[1, 0, 0]], 1: [[1, 0, 1]]}  # 2 is not edited; 3 leaves no cell to look at


def test_named_masks_or_edits_come_before_the_data_sets_own(digits, tmp_path):
    part, store = digits.val, str(tmp_path / "edits.sqlite")
    own = marked_cells(digits, part, (6, 6))
    inside = np.stack([own.cover[i] > 0 for i in range(len(part))])
    assert np.array_equal(inside, ink_grid(part)) and own.source == "masks of the data set"
    save_masks(tmp_path, {part.ids[2]: np.ones((5, 5)), part.ids[4]: np.zeros((5, 5))})
    edit = StoredEdit(part.ids[1], part.sha256(1), np.eye(6, dtype=np.float32), np.eye(6) > 0, "a person")
    with EditStore(store) as edits:
        edits.save(edit)
        edits.save(replace(edit, image_id=part.ids[3], image_sha256=part.sha256(3), author=PREDICTED))
        edits.save(replace(edit, image_id=part.ids[5], image_sha256="0" * 64))
        edits.save(replace(edit, image_id=digits.train.ids[0]))
    from_edits = marked_cells(digits, part, (6, 6), edits=store)
    account = "1 used, 1 of the data set's other images, 1 of changed images"
    assert from_edits.source == f"edits in {store} ({account})"  # it is told and kept with the figures
    assert list(from_edits.cover) == [1] and np.array_equal(from_edits.cover[1], np.eye(6))
    from_masks = marked_cells(digits, part, (6, 6), masks=str(tmp_path))
    assert list(from_masks.cover) == [2] and from_masks.cover[2] == pytest.approx(np.ones((6, 6)))


def test_a_part_on_which_nothing_is_marked_is_refused(digits, tmp_path):
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match=r"no image of train is marked in .*masks"):
        marked_cells(digits, digits.train, (6, 6), masks=str(tmp_path / "masks"))
    with pytest.raises(UserError, match="there is no folder"):
        marked_cells(digits, digits.train, (6, 6), masks=str(tmp_path / "nowhere"))
    with EditStore(tmp_path / "edits.sqlite"):
        pass
    with pytest.raises(UserError, match="holds no edit"):
        marked_cells(digits, digits.train, (6, 6), edits=str(tmp_path / "edits.sqlite"))
    plain = replace(digits.train, masks=None)
    assert marked_cells(digits, plain, (6, 6)).cover == {}


# all of it


def test_a_run_is_measured_against_its_own_masks(run):
    metrics = evaluate_run(run.folder, faithfulness=20)
    written = json.loads((run.folder / "evaluation/metrics.json").read_text())
    assert written["attention"] == metrics["attention"]
    masks, curves = metrics["attention"]["masks"], metrics["attention"]["faithfulness"]

    data, model = load_data("digits_decoy", None, 0.1, 0, False), run.load_model()
    part = data.test("test").prepare((24, 24))
    transform = BatchTransform(24, (0.5,) * 3, (0.5,) * 3)
    images = transform(part.images, torch.arange(500))
    class_logits, views = attention_views(model, images)
    cover = torch.from_numpy(np.stack([cell_means(part.part.mask(i) >= 0.5, (6, 6)) for i in range(500)]))
    assert masks["n"] == 500 and masks["iou_threshold"] == 0.5 and set(masks["sigmoid"]) == {"0", "1", "2"}
    assert masks["chance"]["epg"] == pytest.approx(cover.mean().item(), abs=1e-5)
    assert masks["chance"]["pointing_game"] == pytest.approx((cover > 0).double().mean().item(), abs=1e-5)
    last = views.sigmoid[:, 2]
    assert masks["sigmoid"]["2"]["epg"] == pytest.approx(epg(last, cover).mean().item(), abs=1e-4)
    softmax = views.softmax[:, 0]
    expected = iou(softmax / softmax.amax((1, 2), keepdim=True), cover).mean().item()
    assert masks["softmax"]["0"]["iou"] == pytest.approx(expected, abs=2e-3)
    top = views.rollout.flatten(1).argmax(1, keepdim=True)
    expected = cover.flatten(1).gather(1, top).gt(0).double().mean().item()
    assert masks["rollout"]["pointing_game"] == pytest.approx(expected, abs=5e-3)

    assert curves["n"] == 20 and curves["steps"] == 10 and curves["share"][::5] == [0, 0.5, 1]
    sample = stratified(part.part.labels, 20, seed=0)
    counts = [round(36 * share) for share in curves["share"]]
    for order, maps in {"sigmoid": last, "rollout": views.rollout}.items():
        predicted = class_logits[sample].argmax(1)
        curve = quality.probability_curve(model, images[sample], maps[sample], predicted, counts, False)
        assert curves[order]["deletion_curve"] == pytest.approx(curve.mean(0).tolist(), abs=1e-6)
    for order in ("sigmoid", "rollout", "random"):
        deletion, insertion = (curves[order][f"{kind}_curve"] for kind in ("deletion", "insertion"))
        assert deletion[0] == pytest.approx(insertion[-1]) and deletion[-1] == pytest.approx(insertion[0])
        assert curves[order]["deletion_auc"] == pytest.approx(auc(curves["share"], deletion))
        assert class_logits.softmax(1).amax(1).min() <= deletion[0] <= 1
    assert not_blank(run.folder / "evaluation/insertion_deletion.png")
    told = "\n".join(quality.summary(metrics["attention"]))
    assert f"chance {masks['chance']['epg']:.3f}" in told and "on 500 masks of the data set" in told
    assert f"random order {curves['random']['insertion_auc']:.3f}" in told


def test_a_run_is_measured_against_masks_and_edits_that_are_named(run, tmp_path):
    half = np.zeros((24, 24))
    half[:, :12] = 1
    save_masks(tmp_path, {"test/3": half, "test/4": np.zeros((24, 24)), "test/5": np.ones((24, 24))})
    masks = evaluate_run(run.folder, masks=str(tmp_path), faithfulness=0)["attention"]["masks"]
    assert masks["n"] == 2 and masks["from"] == f"masks in {tmp_path}"
    assert masks["chance"] == {"pointing_game": 0.75, "epg": 0.75, "iou": 0.75}
    assert 0.5 < masks["softmax"]["2"]["epg"] < 1

    image = load_data("digits_decoy", None, 0.1, 0, False).test("test")
    corner = np.zeros((6, 6), bool)
    corner[0, 0] = True
    with EditStore(tmp_path / "edits.sqlite") as store:
        edit = StoredEdit("test/9", image.sha256(9), np.zeros((6, 6), np.float32), corner, "a person")
        store.save(edit)
    metrics = evaluate_run(run.folder, edits=str(tmp_path / "edits.sqlite"), faithfulness=0)
    masks = metrics["attention"]["masks"]
    assert masks["n"] == 1 and masks["chance"]["epg"] == pytest.approx(35 / 36)
    assert "faithfulness" not in metrics["attention"]
    assert not list((run.folder / "evaluation").glob("insertion_deletion.*"))
    with pytest.raises(UserError, match=r"--faithfulness is -1"):
        evaluate_run(run.folder, faithfulness=-1)


def test_figures_do_not_depend_on_the_batches(digits, monkeypatch):
    model, part = tiny_model(), digits.val.subset(range(9)).prepare((32, 32))
    transform = BatchTransform(32, (0.5,) * 3, (0.5,) * 3)
    marked = Marked("", {i: np.eye(4) for i in (0, 2, 3, 7)})
    whole = quality.attention_quality(model, part, transform, marked, 64, 7)
    monkeypatch.setattr(quality, "MEMORY", 2 * 4 * 3 * 2 * 17**2)  # two images at a time
    seen = []
    forward = model.forward_with_attention
    monkeypatch.setattr(
        model, "forward_with_attention", lambda x, **kwargs: seen.append(len(x)) or forward(x, **kwargs)
    )
    parts = quality.attention_quality(model, part, transform, marked, 64, 7)
    assert seen == [2, 2, 2, 2, 2, 1] and whole["masks"]["n"] == 4
    for name in ("masks", "faithfulness"):
        a, b = (json.dumps(x[name]) for x in (whole, parts))
        assert flat(json.loads(a)) == pytest.approx(flat(json.loads(b)), abs=1e-5)


def flat(figures, path=""):
    if isinstance(figures, dict):
        return {k: v for name, x in figures.items() for k, v in flat(x, f"{path}/{name}").items()}
    return {f"{path}/{i}": x for i, x in enumerate(np.atleast_1d(figures).tolist()) if not isinstance(x, str)}

"""The editor's network is the network: every answer equals the model's own, whatever is kept from before."""

import threading
import time

import numpy as np
import pytest
import torch
from helpers.editing import make_images, make_run
from helpers.reference import TINY, materialised, random_edit, tiny_model
from sigmoid_vit.editor.predictions_MISSING import UNKNOWN, UNREADABLE
from sigmoid_vit.evaluation_MISSING import predict
from sigmoid_vit.runs_MISSING import data_config
from torch import nn

from sigmoid_vit import AttentionEdit, UserError
from sigmoid_vit.data import BatchTransform, load_data
from sigmoid_vit.editor import predictor as predictor_module
from sigmoid_vit.editor.images import SplitImages
from sigmoid_vit.editor.predictions import SplitPredictions
from sigmoid_vit.editor.predictor import Predictor
from sigmoid_vit.runs.network import make_accelerator

MODELS = {
    "class_token": {},
    "registers": dict(reg_tokens=3),
    "no_class_token": dict(global_pool="avg", class_token=False),
    "mean": dict(global_pool="avg"),
    "distilled": dict(name="deit_tiny_distilled_patch16_224"),
}
IMAGES = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def a_predictor(images=IMAGES, **kwargs):
    model = tiny_model(**kwargs)
    nn.init.normal_(model.head.weight)
    size = (TINY["img_size"],) * 2
    return Predictor(model, BatchTransform(size, **data_config(model)), lambda i: images[i])


@pytest.fixture(params=MODELS)
def predictor(request):
    predictor = a_predictor(**MODELS[request.param])
    yield predictor
    predictor.close()


def expected(predictor, i, edit=None):
    """What the model itself answers, from the image on."""
    x = predictor.transform(IMAGES[i : i + 1], torch.zeros(1))
    with torch.no_grad():
        return predictor.model(x, edit=edit).softmax(-1)[0]


def scopes(predictor):
    queries = ("cls", "all") if predictor.model.has_class_token else ("all",)
    layers = ("all", "last", [0], [1], [-2, 2])
    return [dict(layers=x, heads=h, queries=q) for x in layers for h in (None, [1]) for q in queries]


def test_every_scope_equals_the_model_to_the_bit(predictor):
    answers = []
    for seed, scope in enumerate(scopes(predictor)):
        edit = random_edit(batch=1, seed=seed, **scope)
        answers.append(predictor.edited(1, edit))
        assert torch.equal(answers[-1], expected(predictor, 1, edit)), scope
        assert torch.equal(predictor.unedited(1), expected(predictor, 1))
    # each scope counts, but for the class token's row in a last layer whose patches alone are read
    assert len({tuple(answer.tolist()) for answer in answers}) >= len(answers) - 1


def test_what_is_kept_never_mixes_images(predictor):
    edit = random_edit(batch=1, layers="last", queries="all")
    for i in [0, 1, 2, 3, 4, 5, 0, 5, 2]:  # more images than are kept
        assert torch.equal(predictor.edited(i, edit), expected(predictor, i, edit))
    assert len(predictor._passes) == predictor_module.KEPT < len(IMAGES)


def test_no_edited_cell_is_the_unedited_network(predictor):
    none = AttentionEdit(torch.full((1, 4, 4), 0.3), torch.zeros(1, 4, 4, dtype=torch.bool))
    unedited = predictor.unedited(0)
    predictor.model.norm = None  # nothing is computed
    assert torch.equal(predictor.edited(0, none), unedited)


def test_only_the_edited_blocks_are_computed_again():
    predictor, computed = a_predictor(), []
    predictor.unedited(0)
    for i, block in enumerate(predictor.model.blocks):
        block.register_forward_pre_hook(lambda *_, i=i: computed.append(i))
        block.norm1.register_forward_hook(lambda *_, i=i: computed.append(i))
    for first in (2, 1, 0):
        computed.clear()
        predictor.edited(0, random_edit(batch=1, layers=[first]))
        assert sorted(set(computed)) == list(range(first, 3))


def test_attention_is_the_networks_own(predictor):
    x = predictor.transform(IMAGES[:1], torch.zeros(1))
    prefix, patches = predictor.model.num_prefix_tokens, slice(predictor.model.num_prefix_tokens, None)
    own = slice(0, 1) if predictor.model.has_class_token else patches
    with torch.no_grad():
        _, logits, attention = materialised(predictor.model, x)
    close = dict(atol=1e-5, rtol=1e-4)
    for layer in range(3):
        for query, rows in (("cls", own), (5, slice(prefix + 5, prefix + 6))):
            maps = logits[layer][0, :, rows, patches].sigmoid().mean(1).unflatten(-1, (4, 4))
            torch.testing.assert_close(predictor.attention(0, layer, None, query), maps.mean(0), **close)
            torch.testing.assert_close(predictor.attention(0, layer, 1, query), maps[1], **close)
    flow = torch.eye(prefix + 16)
    for layer in range(3):  # the definition, N x N
        flow = (attention[layer][0].mean(0) + torch.eye(prefix + 16)) / 2 @ flow
    rows = flow[own].mean(0)[patches].unflatten(0, (4, 4))
    torch.testing.assert_close(predictor.rollout(0, "cls"), rows / rows.max(), **close)
    rows = flow[prefix + 7, patches].unflatten(0, (4, 4))
    torch.testing.assert_close(predictor.rollout(0, 7), rows / rows.max(), **close)


def test_a_request_that_does_not_fit_is_a_sentence(predictor):
    for ask in (
        lambda: predictor.edited(0, random_edit(batch=1, grid=(5, 5))),
        lambda: predictor.edited(0, random_edit(batch=1, layers=[3])),
        lambda: predictor.attention(0, 3, None, "cls"),
        lambda: predictor.attention(0, 0, 2, "cls"),
        lambda: predictor.rollout(0, 16),
    ):
        with pytest.raises(UserError):
            ask()
    assert torch.equal(predictor.unedited(0), expected(predictor, 0))  # and it works on


def test_any_number_of_threads_may_ask():
    predictor, wrong = a_predictor(), []

    def person(i):
        for seed in range(10):
            edit = random_edit(batch=1, seed=seed, queries="all" if i % 2 else "cls")
            if not torch.equal(predictor.edited(i, edit), expected(predictor, i, edit)):
                wrong.append((i, seed))

    people = [threading.Thread(target=person, args=(i,)) for i in range(6)]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()
    assert not wrong


# ---------------------------------------------------------------- all images of a part


def a_split(folder, mask=None):
    """The images of a data set in a folder and a network that looks at them."""
    part = load_data("folder", folder).train
    predictor = a_predictor()
    images = SplitImages(part, (32, 32), "bicubic", folder / "cache", mask)
    predictor.read = images.pixels
    return images, predictor


def predictions_of(images, predictor, **facts):
    return SplitPredictions(images, predictor, images.cache / "train.npz", facts)


@pytest.mark.parametrize("sizes", [[(40, 60), (20, 20), (33, 31)], [(20, 24)] * 3, [(20, 24), (24, 20)]])
def test_predictions_are_those_of_the_evaluator(tmp_path, sizes):
    """Small images of one size stay as they are until the network's input is made, as in `Part.prepare`."""
    images, predictor = a_split(make_images(tmp_path, sizes))
    predictions = predictions_of(images, predictor)
    predictions.compute(threading.Event())
    prepared = images.part.prepare((32, 32), interpolation="bicubic")
    run = make_run(tmp_path)
    logits, labels = predict(
        predictor.model, prepared, predictor.transform, 4, make_accelerator(run.settings())
    )
    probabilities = logits.softmax(1)
    assert predictions.ready == 1
    assert predictions.prediction.tolist() == probabilities.argmax(1).tolist()
    assert predictions.confidence == pytest.approx(probabilities.max(1)[0].numpy(), abs=1e-5)
    assert predictions.p_true == pytest.approx(probabilities[range(len(labels)), labels].numpy(), abs=1e-5)
    assert np.isnan(predictions.outside).all()
    for i in range(len(images)):
        assert torch.equal(images.pixels(i), prepared[i][0])
        assert predictor.unedited(i)[labels[i]] == pytest.approx(predictions.p_true[i], abs=1e-5)


def test_attention_outside_the_mask(tmp_path):
    """On paper: none lies outside a full mask; of a mask that marks nothing there is nothing to say."""
    half = np.zeros((8, 8), np.float32)
    half[:, :4] = 1
    masks = [np.zeros((8, 8), np.float32), np.ones((8, 8), np.float32), half, 1 - half, None, half * 0.4]
    images, predictor = a_split(make_images(tmp_path, [(20, 20)] * 3), mask=masks.__getitem__)
    predictions = predictions_of(images, predictor)
    predictions.compute(threading.Event())
    empty, full, left, right, none, faint = predictions.outside
    assert full == pytest.approx(0, abs=1e-6) and np.isnan([empty, none, faint]).all()
    looks = [predictor.look(images.pixels(i)[None])[1][0] for i in (2, 3)]
    assert left == pytest.approx(looks[0][:, 2:].sum().item(), abs=1e-6)
    assert right == pytest.approx(looks[1][:, :2].sum().item(), abs=1e-6)


def test_the_second_start_takes_them_from_disk(tmp_path, monkeypatch):
    images, predictor = a_split(make_images(tmp_path, [(20, 20)] * 3))
    first = predictions_of(images, predictor, weights="a")
    first.compute(threading.Event())
    looked = []
    monkeypatch.setattr(
        predictor, "look", lambda pixels: looked.append(1) or Predictor.look(predictor, pixels)
    )
    second = predictions_of(images, predictor, weights="a")
    second.compute(threading.Event())
    assert not looked and second.ready == 1
    for name in ("prediction", "confidence", "p_true", "outside"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    predictions_of(images, predictor, weights="b").compute(threading.Event())  # other weights
    assert looked
    looked.clear()
    images.part.paths[0].write_bytes(images.part.paths[1].read_bytes())  # another image
    predictions_of(images, predictor, weights="b").compute(threading.Event())
    assert looked


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", b"x" * 300])
def test_a_damaged_cache_is_computed_again(tmp_path, damage):
    images, predictor = a_split(make_images(tmp_path, [(20, 20)]))
    first = predictions_of(images, predictor)
    first.compute(threading.Event())
    whole = first.cache.read_bytes()
    first.cache.write_bytes(damage + whole[: len(whole) // 2] * (damage[:1] == b"x"))
    second = predictions_of(images, predictor)
    second.compute(threading.Event())
    assert second.ready == 1 and second.cache.read_bytes()[:2] == b"PK"
    np.testing.assert_array_equal(first.confidence, second.confidence)


def test_damaged_files_are_left_out(tmp_path, capsys):
    images, predictor = a_split(make_images(tmp_path, [(20, 20)] * 3))
    images.part.paths[1].write_bytes(b"not an image")
    images.part.paths[4].unlink()
    predictions = predictions_of(images, predictor)
    predictions.compute(threading.Event())
    assert predictions.ready == 1
    assert [i for i, p in enumerate(predictions.prediction) if p == UNREADABLE] == [1, 4]
    assert str(images.part.paths[1]) in capsys.readouterr().err


def test_people_go_first_and_a_stop_is_heeded(tmp_path, monkeypatch):
    images, predictor = a_split(make_images(tmp_path, [(20, 20)] * 3))
    monkeypatch.setattr(predictor, "idle_for", lambda: 0.0)  # somebody is always painting
    predictions, stop = predictions_of(images, predictor), threading.Event()
    thread = threading.Thread(target=predictions.compute, args=(stop,))
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive() and (predictions.prediction == UNKNOWN).all() and predictions.ready == 0
    stop.set()
    thread.join(2)
    assert not thread.is_alive()

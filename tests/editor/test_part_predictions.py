"""The predictions of all images of a part: those of the evaluator, kept on disk, and people go first."""

import threading
import time

import numpy as np
import pytest
import torch
from helpers.editing import a_network, make_images

from sigmoid_vit.data import load_data
from sigmoid_vit.editor.part_images import PartImages
from sigmoid_vit.editor.part_predictions import UNKNOWN, UNREADABLE, PartPredictions
from sigmoid_vit.editor.predictor import Predictor


def a_part(folder, mask=None):
    """The images of a data set in a folder and a network for them."""
    network = a_network()
    images = PartImages(load_data("folder", folder).train, network.transform, folder / "cache", mask)
    return images, Predictor(network, images.pixels)


def predictions_of(images, predictor, **facts):
    return PartPredictions(images, predictor, images.cache / "train.npz", facts)


@pytest.mark.parametrize("sizes", [[(40, 60), (20, 20), (33, 31)], [(20, 24)] * 3, [(20, 24), (24, 20)]])
def test_predictions_are_those_of_the_evaluator(tmp_path, sizes):
    """Small images of one size stay as they are until the network's input is made, as in `Part.prepare`."""
    images, predictor = a_part(make_images(tmp_path, sizes))
    predictions = predictions_of(images, predictor)
    predictions.compute(threading.Event())
    network = a_network()
    prepared, labels = network.prepare(images.part), images.part.labels
    probabilities = network.logits(prepared, 4).softmax(1)
    assert predictions.ready == 1
    assert predictions.prediction.tolist() == probabilities.argmax(1).tolist()
    assert predictions.confidence == pytest.approx(probabilities.max(1)[0].numpy(), abs=1e-5)
    assert predictions.p_true == pytest.approx(probabilities[range(len(labels)), labels].numpy(), abs=1e-5)
    assert np.isnan(predictions.outside).all()
    for i in range(len(images)):
        assert torch.equal(images.pixels(i), prepared[i][0])
        assert predictor.unedited(i)[labels[i]] == pytest.approx(predictions.p_true[i], abs=1e-5)


def test_attention_outside_the_mask(tmp_path):
    """On paper: none lies outside a full mask; without a mark there is no number."""
    half = np.zeros((8, 8), np.float32)
    half[:, :4] = 1
    masks = [np.zeros((8, 8), np.float32), np.ones((8, 8), np.float32), half, 1 - half, None, half * 0.4]
    images, predictor = a_part(make_images(tmp_path, [(20, 20)] * 3), mask=masks.__getitem__)
    predictions = predictions_of(images, predictor)
    predictions.compute(threading.Event())
    empty, full, left, right, none, faint = predictions.outside
    assert full == pytest.approx(0, abs=1e-6)
    assert np.isnan([empty, none, faint]).all()
    maps = [predictor.predict_batch(images.pixels(i)[None])[1][0] for i in (2, 3)]
    assert left == pytest.approx((maps[0][:, 2:].sum() / maps[0].sum()).item(), abs=1e-6)
    assert right == pytest.approx((maps[1][:, :2].sum() / maps[1].sum()).item(), abs=1e-6)


def test_the_second_start_takes_them_from_disk(tmp_path, monkeypatch):
    images, predictor = a_part(make_images(tmp_path, [(20, 20)] * 3))
    first = predictions_of(images, predictor, weights="a")
    first.compute(threading.Event())
    computed = []
    predict = predictor.predict_batch
    monkeypatch.setattr(predictor, "predict_batch", lambda pixels: computed.append(1) or predict(pixels))
    second = predictions_of(images, predictor, weights="a")
    second.compute(threading.Event())
    assert not computed
    assert second.ready == 1
    for name in ("prediction", "confidence", "p_true", "outside"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    predictions_of(images, predictor, weights="b").compute(threading.Event())  # other weights
    assert computed
    computed.clear()
    images.part.paths[0].write_bytes(images.part.paths[1].read_bytes())  # another image
    predictions_of(images, predictor, weights="b").compute(threading.Event())
    assert computed


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", b"x" * 300])
def test_a_damaged_cache_is_computed_again(tmp_path, damage):
    images, predictor = a_part(make_images(tmp_path, [(20, 20)]))
    first = predictions_of(images, predictor)
    first.compute(threading.Event())
    whole = first.cache.read_bytes()
    first.cache.write_bytes(damage + whole[: len(whole) // 2] * (damage[:1] == b"x"))
    second = predictions_of(images, predictor)
    second.compute(threading.Event())
    assert second.ready == 1
    assert second.cache.read_bytes()[:2] == b"PK"
    np.testing.assert_array_equal(first.confidence, second.confidence)


def test_damaged_files_are_left_out(tmp_path, capsys):
    images, predictor = a_part(make_images(tmp_path, [(20, 20)] * 3))
    images.part.paths[1].write_bytes(b"not an image")
    images.part.paths[4].unlink()
    predictions = predictions_of(images, predictor)
    predictions.compute(threading.Event())
    assert predictions.ready == 1
    assert [i for i, p in enumerate(predictions.prediction) if p == UNREADABLE] == [1, 4]
    assert str(images.part.paths[1]) in capsys.readouterr().err


def test_people_go_first_and_a_stop_is_heeded(tmp_path, monkeypatch):
    images, predictor = a_part(make_images(tmp_path, [(20, 20)] * 3))
    monkeypatch.setattr(predictor, "idle_for", lambda: 0.0)  # somebody is always painting
    predictions, stop = predictions_of(images, predictor), threading.Event()
    thread = threading.Thread(target=predictions.compute, args=(stop,))
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive()
    assert (predictions.prediction == UNKNOWN).all()
    assert predictions.ready == 0
    stop.set()
    thread.join(2)
    assert not thread.is_alive()

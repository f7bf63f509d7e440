"""A network with its images: its predictions are the plain model's, in order, whatever the batches."""

import numpy as np
import pytest
import torch
from helpers.images import make_folder
from helpers.reference import materialised
from helpers.runs import settings, untrained_run

from sigmoid_vit import UserError
from sigmoid_vit.data import load_data
from sigmoid_vit.model.checkpoints import load_checkpoint, save_checkpoint
from sigmoid_vit.runs.network import Network, build_model, make_accelerator

N = 23


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def network(run):
    return Network.of_run(run)


@pytest.fixture(scope="module")
def part(run, network):
    return network.prepare(run.open_data().val.subset(range(N)))


def plain(network, part):
    """Class logits of the model itself, on the images normalised by hand."""
    images = (part.images.float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        return network.model(images)


@pytest.mark.parametrize("batch_size", [1, 5, 7, N - 1, N, N + 1, None])
def test_logits_are_the_plain_models_in_order(network, part, batch_size):
    found = network.logits(part, batch_size)
    assert found.shape == (N, 10)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain(network, part), atol=1e-5, rtol=1e-5)


def test_logits_are_the_same_through_an_accelerator(run, network, part):
    through = Network(network.model, network.settings, network.classes, make_accelerator(network.settings))
    torch.testing.assert_close(through.logits(part, 7), network.logits(part, 7))


@pytest.mark.parametrize("training", [True, False])
def test_predicting_uses_eval_mode_and_leaves_the_mode_as_it_was(run, part, training):
    model = build_model(run.settings(), 10).train(training)
    for block in model.blocks:
        block.attn.attn_drop.p = 0.5
    network = Network(model, run.settings(), run.classes)
    assert torch.equal(network.logits(part), network.logits(part))
    assert model.training is training


def test_predictions_are_the_softmax_with_the_parts_labels(network, part):
    found = network.predict(part, batch_size=4)
    torch.testing.assert_close(found.probabilities, plain(network, part).softmax(1))
    assert found.labels.tolist() == part.part.labels.tolist()
    prediction, confidence = found.classes_and_confidence()
    assert prediction.tolist() == found.probabilities.argmax(1).tolist()
    assert confidence.tolist() == found.probabilities.amax(1).tolist()


def test_errors_and_hits_are_positions_and_as_many_as_asked_for(network, part):
    found = network.predict(part)
    prediction, confidence = found.classes_and_confidence()
    wrong = np.flatnonzero(prediction != part.part.labels)
    assert found.confident_errors(3) == wrong[np.argsort(-confidence[wrong], kind="stable")][:3].tolist()
    assert sorted(found.confident_errors(N)) == wrong.tolist()
    assert set(found.surest_hits(N)) == set(range(N)) - set(wrong.tolist())
    assert found.confident_errors(0) == found.surest_hits(0) == []


def test_inputs_are_the_transform_of_the_images(network, part):
    chosen = [4, 0, 17]
    found = network.inputs(part, chosen)
    assert torch.equal(found, network.transform(part.images[chosen], torch.tensor(chosen)))
    torch.testing.assert_close(found, (part.images[chosen].float() / 255 - 0.5) / 0.5)


def test_batches_are_the_inputs_at_these_positions(network, part):
    positions = np.array([9, 2, 2, 20, 5])
    batches = list(network.batches(part, positions, 2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat(batches), network.inputs(part, positions.tolist()))


def test_images_on_disk_are_brought_to_the_networks_size(tmp_path, run, network):
    make_folder(tmp_path, {"a": 2, "b": 1}, size=(50, 40))
    part = network.prepare(load_data("folder", tmp_path, val_fraction=0).train)
    assert part.size == (24, 24)
    assert part.interpolation == network.input_config["interpolation"]
    assert network.inputs(part, [0, 2]).shape == (2, 3, 24, 24)
    assert network.logits(part).shape == (3, 10)


def test_a_runs_network_has_its_saved_weights(run, network):
    saved = load_checkpoint(run.best)["model"]
    state = network.model.state_dict()
    assert state.keys() == saved.keys()
    for key, value in saved.items():
        assert torch.equal(state[key], value), key
    assert not network.model.training
    assert network.classes == run.classes
    assert network.name == "run"


def test_the_last_epoch_is_another_network(tmp_path):
    run = untrained_run(tmp_path)
    last = {key: value + 1 for key, value in load_checkpoint(run.best)["model"].items()}
    save_checkpoint(run.last, {"model": last, "epoch": 2})
    state = Network.of_run(run, "last").model.state_dict()
    assert torch.equal(state["head.bias"], last["head.bias"])
    with pytest.raises(UserError, match=r"middle\.pt does not exist"):
        Network.of_run(run, "middle")


def test_a_new_network_is_the_one_of_the_settings(tmp_path):
    s = settings(tmp_path, "--model_kwargs", "patch_size=8", "embed_dim=32", "depth=2", "num_heads=2")
    network = Network.new(s, ["a", "b", "c"])
    assert network.grid == (3, 3)
    assert len(network.model.blocks) == 2
    assert network.model.num_classes == 3
    assert network.input_config["mean"] == (0.5, 0.5, 0.5)


def test_attention_of_predictions_is_that_of_the_network_written_out(network, part):
    found, chosen = network.predict(part), [3, 11]
    _, logits, rows = materialised(network.model, network.inputs(part, chosen))
    last = logits[2][:, :, 0, 1:].sigmoid().unflatten(-1, (6, 6))
    torch.testing.assert_close(found.attention(chosen), last, atol=1e-5, rtol=1e-4)
    maps = found.attention_maps(chosen)
    torch.testing.assert_close(maps.sigmoid[:, 2], last.mean(1), atol=1e-5, rtol=1e-4)
    expected = rows[0][:, :, 0, 1:].mean(1).unflatten(-1, (6, 6))
    torch.testing.assert_close(maps.softmax[:, 0], expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(found.images(chosen), part.images[chosen])


@pytest.mark.parametrize(
    "args, words",
    [
        (["--model_name", "vit_tinny_patch16_224"], "not a model of timm; did you mean vit_tiny"),
        (["--model_kwargs", "depth=2", "nonsense=1"], "timm cannot build .*nonsense"),
    ],
)
def test_a_network_that_cannot_be_built_is_one_sentence(tmp_path, args, words):
    with pytest.raises(UserError, match=words):
        build_model(settings(tmp_path, *args), 10)

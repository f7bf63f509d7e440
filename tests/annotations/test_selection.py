"""Which images are edited: spread over the classes, or those that the network needs most."""

import numpy as np
import pytest
import torch
from helpers.marked_images import stored
from helpers.runs import untrained_run
from hypothesis import given
from hypothesis import strategies as st

from sigmoid_vit.annotations.import_options import ImportOptions
from sigmoid_vit.annotations.importing import import_edits
from sigmoid_vit.annotations.marked import MarkedCells
from sigmoid_vit.annotations.selection import attention_outside, choose, stratified
from sigmoid_vit.data import ink_grid, load_data
from sigmoid_vit.evaluation.attention_quality import against_masks
from sigmoid_vit.files import sha256
from sigmoid_vit.runs.network import Network


@given(
    n=st.integers(1, 90), counts=st.lists(st.integers(1, 30), min_size=1, max_size=6), seed=st.integers(0, 9)
)
def test_random_images_are_spread_over_the_classes(n, counts, seed):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    n = min(n, len(labels))
    chosen = stratified(labels, n, seed)
    assert len(set(chosen.tolist())) == n
    assert np.array_equal(chosen, stratified(labels, n, seed))
    share = np.array(counts) * n / len(labels)
    assert (np.abs(np.bincount(labels[chosen], minlength=len(counts)) - share) <= 1).all()


def test_a_fraction_is_of_all_images_and_the_seed_chooses(tmp_path):
    def chosen(**options):
        options = {"fraction": 0.1, **options, "val_fraction": 0, "edits": str(tmp_path / "e.sqlite")}
        return import_edits(ImportOptions(["ink"], grid="6x6", **options)).edited

    first = chosen()
    assert len(first) == round(0.1 * 1297)
    assert chosen() == first != chosen(seed=1)
    digit = dict(zip((part := load_data("digits_decoy", val_fraction=0).train).ids, part.labels, strict=True))
    assert set(np.bincount([digit[i] for i in first])) <= {12, 13, 14}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with random weights: a network that is wrong about most digits."""
    return untrained_run(tmp_path_factory.mktemp("runs"), "--seed", "3")


@pytest.fixture(scope="module")
def network(run):
    return Network.of_run(run)


@pytest.fixture(scope="module")
def part(run, network):
    """The run's train part, prepared."""
    return network.prepare(run.open_data().train)


@pytest.fixture(scope="module")
def outside_ink(network, part):
    """The share of the attention that falls outside the ink, of every image."""
    return attention_outside(network, part, np.arange(len(part)), list(ink_grid(part.part).astype(float)))


def test_attention_outside_is_a_share_of_the_last_layer(network, part, outside_ink):
    _, logits = network.model.forward_with_attention(network.inputs(part, [0]))
    attention = logits[2][0, :, 0, 1:].softmax(-1).mean(0).detach().numpy().reshape(6, 6)
    ink = ink_grid(part.part.subset([0]))[0]
    assert outside_ink[0] == pytest.approx(attention[~ink].sum(), abs=1e-5)
    assert outside_ink.min() > 0
    assert outside_ink.max() < 1


def test_it_is_1_minus_the_epg_of_evaluate(network, part):
    chosen = np.arange(0, 60, 7)
    cover = {i: ink_grid(part.part.subset([i]))[0].astype(float) for i in chosen.tolist()}
    off = attention_outside(network, part, chosen, list(cover.values()))
    figures = against_masks(network, part, MarkedCells("ink", cover), batch_size=4)
    assert 1 - figures["softmax"]["2"]["epg"] == pytest.approx(off.mean(), abs=1e-5)


def chosen(run, tmp_path, select):
    """The images that --select chooses, most urgent first."""
    edits = str(tmp_path / f"{select}.sqlite")
    account = import_edits(ImportOptions(["ink"], run=str(run.folder), select=select, count=20, edits=edits))
    assert {edit.weights_sha256 for edit in stored(edits).values()} == {sha256(run.best)}
    assert account.grid == (6, 6)
    assert len(account.edited) == 20
    return account.edited


def test_errors_are_the_wrong_ones_most_confident_first(run, network, part, tmp_path):
    found = network.predict(part, batch_size=100)
    confidence, prediction = found.probabilities.max(1)
    wrong = torch.nonzero(prediction != found.labels)[:, 0]
    surest = wrong[confidence[wrong].argsort(descending=True, stable=True)[:20]]
    assert chosen(run, tmp_path, "errors") == [part.part.ids[i] for i in surest.tolist()]


def test_uncertain_are_the_least_sure_first(run, network, part, tmp_path):
    order = network.predict(part).probabilities.amax(1).argsort(stable=True)
    assert chosen(run, tmp_path, "uncertain") == [part.part.ids[i] for i in order[:20].tolist()]


def test_attention_off_are_those_with_most_of_it_outside(run, network, part, outside_ink, tmp_path):
    most_off = np.argsort(-outside_ink, kind="stable")[:20]
    assert chosen(run, tmp_path, "attention_off") == [part.part.ids[i] for i in most_off]
    everywhere = [np.ones((6, 6))] * 9
    assert choose("attention_off", network, part, np.arange(9), everywhere).tolist() == []


def test_only_candidates_are_chosen(network, part):
    candidates, targets = np.array([40, 3, 17, 8]), [np.eye(6)] * 4
    for select in ("errors", "uncertain", "attention_off"):
        assert set(choose(select, network, part, candidates, targets)) <= set(candidates)
    assert sorted(choose("uncertain", network, part, candidates, targets)) == [3, 8, 17, 40]


def test_random_with_a_run_takes_its_split_and_grid(run, tmp_path):
    options = ImportOptions(["ink"], run=str(run.folder), edits=str(tmp_path / "e.sqlite"))
    account = import_edits(options)
    assert account.grid == (6, 6)
    assert len(account.edited) == 1167
    assert set(account.edited) == set(load_data("digits_decoy", seed=3).train.ids)

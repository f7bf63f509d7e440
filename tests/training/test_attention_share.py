"""How much attention lies on the erased cells: written out, and told before and after."""

import json

import numpy as np
import pytest
import torch
from helpers.reference import materialised, tiny_model
from helpers.runs import settings, train

from sigmoid_vit.data import load_data
from sigmoid_vit.edits.maps import EditMaps
from sigmoid_vit.model.edit import AttentionEdit
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network
from sigmoid_vit.training.attention_share import attention_share, summary


@pytest.fixture
def network(tmp_path):
    return Network(tiny_model(), settings(tmp_path, "--img_size", "32"), list("abcde"))


def test_the_share_written_out(network):
    part = network.prepare(load_data("digits_decoy").val.subset(range(3)))
    maps = EditMaps.empty(3, (4, 4))
    maps.edited[0, 0], maps.edited[2, 1:3] = True, True
    maps.value[0, 0, 0], maps.value[2, 1] = 0.9, 0.5  # these are kept, whoever marked them
    erased = maps.erased
    assert erased.flatten(1).sum(1).tolist() == [3, 0, 4]
    share = attention_share(network, part, maps)
    _, logits, rows = materialised(network.model, network.inputs(part, [0, 2]))
    own = erased[[0, 2]].flatten(1)
    softmax = torch.stack([rows[i][:, :, 0, 1:].mean(1) for i in range(3)])  # [layers, 2, patches]
    sigmoid = torch.stack([logits[i][:, :, 0, 1:].sigmoid().mean(1) for i in range(3)]).mean(0)
    assert share["n"] == 2
    assert share["uniform"] == pytest.approx((3 + 4) / 2 / 17)
    assert share["softmax"] == pytest.approx((softmax * own).sum(-1).mean().item(), rel=1e-4)
    assert share["softmax_last"] == pytest.approx((softmax[2] * own).sum(-1).mean().item(), rel=1e-4)
    each = [(sigmoid[i][own[i]].mean().item(), sigmoid[i][~own[i]].mean().item()) for i in range(2)]
    assert (share["sigmoid"], share["sigmoid_others"]) == pytest.approx(np.mean(each, 0), rel=1e-4)


def test_the_answers_written_out(network):
    """Of images of which the network is made to call some right, whole or under their edits."""
    n = 40
    data = load_data("digits_decoy").val.subset(range(n))
    maps = EditMaps.empty(n, (4, 4))
    maps.edited[::2] = maps_of = torch.rand(n // 2, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    maps.edited[::2, 0, 0], maps_of[:, 0, 0] = True, True
    network.settings.batch_size = 7
    images = network.inputs(network.prepare(data), list(range(0, n, 2)))
    edit = AttentionEdit(torch.zeros(n // 2, 4, 4), maps_of, layers="all", queries="all")
    with torch.no_grad():
        whole, erased = network.model(images).argmax(1), network.model(images, edit=edit).argmax(1)
    data.labels[::2] = torch.where(torch.arange(n // 2) < 15, erased, whole).cpu().numpy()
    share = attention_share(network, network.prepare(data), maps)
    assert share["right_erased"] == pytest.approx((erased.cpu().numpy() == data.labels[::2]).mean())
    assert share["right_whole"] == pytest.approx((whole.cpu().numpy() == data.labels[::2]).mean())
    assert share["right_erased"] != share["right_whole"]


def test_edits_that_keep_everything_have_no_share(network):
    part, maps = network.prepare(load_data("digits_decoy").val.subset(range(3))), EditMaps.empty(3, (4, 4))
    assert attention_share(network, part, maps) is None
    maps.edited[:], maps.value[:] = True, 0.9
    assert attention_share(network, part, maps) is None


@pytest.mark.parametrize(
    "after, aligned, warns", [(0.5, True, True), (0.4, True, False), (0.5, False, False)]
)
def test_attention_that_stayed_is_said(after, aligned, warns):
    names = ("uniform", "softmax_last", "rollout", "sigmoid", "sigmoid_others", "right_whole", "right_erased")
    before = {"n": 7, "softmax": 0.5, **dict.fromkeys(names, 0.5)}
    text = summary(before, before | {"softmax": after, "sigmoid": 0.01}, aligned)
    assert f"softmax, mean of the layers 0.500 -> {after:.3f}" in text
    assert "sigmoid, of an erased cell 0.500 -> 0.010" in text
    assert ("hardly fell" in text) == warns


@pytest.mark.parametrize(
    "whole, erased, aligned, warns",
    [(0.6, 0.9, True, True), (0.85, 0.9, True, False), (0.9, 0.6, True, False), (0.6, 0.9, False, False)],
)
def test_a_network_that_needs_the_edits_is_said(whole, erased, aligned, warns):
    names = ("uniform", "softmax", "softmax_last", "rollout", "sigmoid", "sigmoid_others")
    before = {"n": 7, **dict.fromkeys(names, 0.5), "right_whole": 0.3, "right_erased": 0.2}
    after = before | {"softmax": 0.1, "right_whole": whole, "right_erased": erased}
    text = summary(before, after, aligned)
    assert f"whole 0.300 -> {whole:.3f}; with the erased cells taken away 0.200 -> {erased:.3f}" in text
    assert ("needs the edits" in text) == warns


@pytest.mark.slow
def test_step_2_tells_the_share_before_and_after(ink_store, tmp_path, capsys):
    first = train(tmp_path, "--epochs", "1")
    assert not first.attention_share.exists()

    def second(name, *options):
        start = ["--first_step", str(first.folder), "--edits", ink_store, "--epochs", "2"]
        train(tmp_path, *start, "--runs_name", name, *options)
        return json.loads(Run(tmp_path / name).attention_share.read_text())

    told = second("second")
    assert told["after"]["softmax"] < told["before"]["softmax"] < 1
    assert told["before"]["n"] == told["after"]["n"] == 200
    assert summary(told["before"], told["after"], aligned=True) in capsys.readouterr().out
    control = second("control", "--control", "no_edits")
    assert control["before"] == told["before"]

"""The editor's network is the network: each prediction equals the model's own, whatever is kept."""

import threading

import pytest
import torch
from helpers.editing import a_network
from helpers.reference import materialised, random_edit

from sigmoid_vit import AttentionEdit, UserError, decision_map
from sigmoid_vit.editor import predictor as predictor_module
from sigmoid_vit.editor.predictor import Predictor
from sigmoid_vit.model import decision as decision_module

MODELS = {
    "class_token": {},
    "registers": dict(reg_tokens=3),
    "no_class_token": dict(global_pool="avg", class_token=False),
    "mean": dict(global_pool="avg"),
    "distilled": dict(name="deit_tiny_distilled_patch16_224"),
}


IMAGES = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def a_predictor(**kwargs):
    return Predictor(a_network(**kwargs), lambda i: IMAGES[i])


@pytest.fixture(params=MODELS)
def predictor(request):
    predictor = a_predictor(**MODELS[request.param])
    yield predictor
    predictor.close()


def expected(predictor, i, edit=None):
    """What the model itself predicts, from the image on."""
    x = predictor.transform(IMAGES[i : i + 1], torch.zeros(1))
    with torch.no_grad():
        return predictor.model(x, edit=edit).softmax(-1)[0]


def scopes(predictor):
    queries = ("cls", "all") if predictor.model.has_class_token else ("all",)
    layers = ("all", "last", [0], [1], [-2, 2])
    return [dict(layers=x, heads=h, queries=q) for x in layers for h in (None, [1]) for q in queries]


def test_every_scope_equals_the_model_to_the_bit(predictor):
    found = []
    for seed, scope in enumerate(scopes(predictor)):
        edit = random_edit(batch=1, seed=seed, **scope)
        found.append(predictor.edited(1, edit))
        assert torch.equal(found[-1], expected(predictor, 1, edit)), scope
        assert torch.equal(predictor.unedited(1), expected(predictor, 1))
    # each scope counts, but for the class token's row in a last layer whose patches alone are read
    assert len({tuple(response.tolist()) for response in found}) >= len(found) - 1


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


def test_the_decision_map_is_the_models_own_exact_or_estimated(monkeypatch):
    predictor = a_predictor()
    x = predictor.transform(IMAGES[2:3], torch.zeros(1))
    exact = decision_map(predictor.model, x, 3, 1)[0]
    torch.testing.assert_close(predictor.decision(2, 3, 1, exact=True), exact, atol=1e-6, rtol=1e-4)
    monkeypatch.setattr(decision_module, "REFINED", 3)
    estimate = decision_map(predictor.model, x, exact=False)[0]
    torch.testing.assert_close(predictor.decision(2, None, None, exact=False), estimate, atol=1e-6, rtol=1e-4)
    predictor.close()


def test_a_map_that_was_shown_is_not_computed_again(predictor, monkeypatch):
    asked = [(0, 1, None, True), (0, 2, None, True), (0, 1, 2, True), (1, 1, None, True), (0, 1, None, False)]
    first = [predictor.decision(*each) for each in asked]
    monkeypatch.setattr(predictor_module, "KEPT_MAPS", len(asked))
    monkeypatch.setattr(predictor, "_compute", None)
    assert all(torch.equal(predictor.decision(*each), map_) for each, map_ in zip(asked, first, strict=True))
    assert len({tuple(map_.flatten().tolist()) for map_ in first[:4]}) == 4


def test_a_map_that_nobody_waits_for_is_given_up(predictor, monkeypatch):
    erased, effect = [], predictor._effect
    monkeypatch.setattr(predictor, "_effect", lambda *args: erased.append(1) or effect(*args))
    with pytest.raises(UserError, match="nobody waits for the map of image 2"):
        predictor.decision(2, None, None, True, lambda: not erased)
    assert len(erased) == 1


def test_a_request_that_does_not_fit_is_a_sentence(predictor):
    for ask in (
        lambda: predictor.edited(0, random_edit(batch=1, grid=(5, 5))),
        lambda: predictor.edited(0, random_edit(batch=1, layers=[3])),
        lambda: predictor.attention(0, 3, None, "cls"),
        lambda: predictor.attention(0, 0, 2, "cls"),
        lambda: predictor.rollout(0, 16),
        lambda: predictor.decision(0, 99, None, True),
    ):
        with pytest.raises(UserError):
            ask()
    assert torch.equal(predictor.unedited(0), expected(predictor, 0))  # and it works on


def test_any_number_of_threads_may_predict():
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

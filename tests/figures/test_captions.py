"""What stands beside the images: id, true class and prediction, before and after."""

from types import SimpleNamespace

import torch
from helpers.figures import images, maps
from helpers.reference import tiny_model

from sigmoid_vit.figures.captions import change_texts, prediction_text, query_names
from sigmoid_vit.figures.two_runs import Maps, draw_before_after

NO_CLASS_TOKEN = {"class_token": False, "global_pool": "avg"}


def test_whose_attention_is_shown_is_named_of_both_networks():
    with_token, without = (SimpleNamespace(model=tiny_model(**kwargs)) for kwargs in ({}, NO_CLASS_TOKEN))
    assert query_names(None, without) == "mean over all patches"
    assert query_names(without, without) == "mean over all patches"
    assert query_names(with_token, with_token) == "class token"
    both = "before: class token, after: mean over all patches"
    assert query_names(with_token, without) == both
    seen = Maps(maps(1, 3, 3), maps(1, 3, 3))
    figure = draw_before_after(images(1), seen, seen, ["a"], query=both)
    assert both in figure.get_suptitle().replace("\n", " ")


def test_long_class_names_are_shortened_beside_the_rows():
    part = SimpleNamespace(ids=["a.png"], classes=["001.Black_footed_Albatross", "ハシブトガラスの雌の成鳥"])
    before, after = (
        SimpleNamespace(
            part=SimpleNamespace(part=part), probabilities=torch.tensor([p]), labels=torch.tensor([0])
        )
        for p in ([0.9, 0.1], [0.2, 0.8])
    )
    (text,) = change_texts(before, after, [0])
    assert text.splitlines() == [
        "a.png",
        "before: 001.Black_footed_Al… (90%)",
        "after: ハシブトガラスの雌… (80%)",
        "true: 001.Black_footed_Al… (90% → 20%)",
    ]
    expected = "a.png\npredicted ハシブトガラスの雌… (80%)\ntrue 001.Black_footed_Al… (20%)"
    assert prediction_text("a.png", torch.tensor([0.2, 0.8]), 0, part.classes) == expected

"""Attention in pictures: every head and every layer, on the scale 0..1, in rows that fit a page."""

import numpy as np
import pytest
import torch
from helpers.figures import images, maps, saved, within

from sigmoid_vit.figures.attention_maps import draw_heads, draw_layers


def test_all_layers_are_shown_on_the_scale_from_0_to_1(tmp_path):
    sigmoid, softmax, rollout = maps(2, 3, 4, 5), maps(2, 3, 4, 5) / 20, maps(2, 4, 5) / 9
    titles = ["test/1\npredicted シジュウカラ", "a" * 90]
    figure = draw_layers(images(2), sigmoid, softmax, rollout, titles, "title")
    shown = [ax.images[0] for ax in figure.axes if ax.images and ax.images[0].get_array().shape == (4, 5)]
    assert len(shown) == 2 * (3 + 3 + 1)
    assert {image.get_clim() for image in shown} == {(0, 1)}
    drawn = [torch.from_numpy(np.array(image.get_array())) for image in shown]
    expected = [*sigmoid.flatten(0, 1), *(m / m.max() for m in (*softmax.flatten(0, 1), *rollout))]
    for values in expected:
        assert any(torch.equal(values, other) for other in drawn)
    written = {ax.get_xlabel() for ax in figure.axes}
    assert f"max {softmax[1, 2].max():.2g}" in written
    assert f"max {rollout[0].max():.2g}" in written
    saved(figure, tmp_path)


@pytest.mark.parametrize("n", [7, 12, 24])
def test_many_layers_and_heads_stand_in_rows(n, tmp_path):
    texts = ["test/012.Yellow_headed_Blackbird/Yellow_Headed_Blackbird_0003_8337.jpg\npredicted 猫 (100%)"]
    grid = draw_heads(images(1), maps(1, 3, 3), maps(1, n, 3, 3), texts)
    layers = draw_layers(images(1), *maps(2, 1, n, 3, 3), maps(1, 3, 3), texts)
    assert "class token" in layers.get_suptitle()
    for figure, name in ((grid, "head"), (layers, "layer")):
        saved(figure, tmp_path)
        places = {ax.get_title(): ax.get_position() for ax in figure.axes}
        found = [places[f"{name} {k}"] for k in range(n)]
        assert figure.get_figwidth() <= 11.1, name
        assert len({round(place.x0, 2) for place in found}) == 6, name
        assert len({round(place.y0, 2) for place in found}) == -(-n // 6), name
        assert min(place.width for place in found) * figure.get_figwidth() > 0.6, name


def test_texts_beside_rows_do_not_meet(tmp_path):
    text = "val/北の森のシジュウカラとハシブトガラスの雌の成鳥の写真集/0001_7961113.jpg\n" + "before: x\n" * 9
    figure = draw_heads(images(3), maps(3, 3, 3), maps(3, 2, 3, 3), [text] * 3)
    labels = [ax.yaxis.label for ax in figure.axes if "before: x" in ax.get_ylabel()]
    assert len(labels) == 3
    assert within(figure, *labels)
    above, middle, below = (label.get_window_extent() for label in labels)
    assert above.y0 > middle.y1
    assert middle.y0 > below.y1
    saved(figure, tmp_path)

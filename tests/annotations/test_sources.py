"""Mask and heat map files of every kind are read as 0 to 1."""

import numpy as np
import pytest
from helpers.marked_images import H, W, block, save
from PIL import Image

from sigmoid_vit import UserError
from sigmoid_vit.annotations.mask_files import read_map


def test_kinds_of_mask_files(tmp_path):
    half = block(0, 8, 0, 12)
    expected = half.astype(bool)
    heat = np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)
    assert np.array_equal(read_map(save(tmp_path / "16.png", heat)), (heat / 65535).astype(np.float32))
    assert np.array_equal(read_map(save(tmp_path / "8.png", half)), expected)
    assert np.array_equal(read_map(save(tmp_path / "ones.png", half // 255)), expected)  # labels 0 and 1
    assert np.array_equal(read_map(save(tmp_path / "rgb.png", np.stack([half] * 3, -1))), expected)
    assert np.abs(read_map(save(tmp_path / "lossy.jpg", half)) - expected).max() < 0.1
    Image.fromarray(half).convert("1").save(tmp_path / "1.png")
    Image.fromarray(half).convert("P").save(tmp_path / "p.png")
    Image.fromarray(half).convert("LA").save(tmp_path / "la.png")
    for name in ("1.png", "p.png", "la.png"):
        assert np.array_equal(read_map(tmp_path / name), expected), name
    coloured = np.zeros((H, W, 3), np.uint8)
    coloured[:8, :, 0] = 128
    with pytest.raises(UserError, match=r"red\.png: is coloured"):
        read_map(save(tmp_path / "red.png", coloured))
    with pytest.raises(UserError, match="floating-point"):
        read_map(save(tmp_path / "f.tiff", half.astype(np.float32)))

"""The run-length code of Label Studio's brush: a string of bits, https://github.com/thi-ng/umbrella rle-pack.

Head: 32 bits, how many numbers; 5 bits, bits of a number less 1; four times 4 bits, sizes of lengths less 1.
Blocks: 1 bit, whether a number is repeated; 2 bits, which size the length has; the length less 1; and the
repeated number, or as many numbers. The numbers are the channels R, G, B, A of each pixel; A is the mask.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from sigmoid_vit.annotations.formats.shapes import Size

CHANNELS = 4
SIZES = (3, 4, 8, 16)  # bits of lengths, in what `encode` writes
MARKED = 128  # of 255; the brush has soft edges


def decode(code: Sequence[int], size: Size) -> np.ndarray:
    """The mask of an image of `size`, bool [h, w]; `ValueError` if the bytes are not its code."""
    bits = np.unpackbits(np.array(code, np.uint8))
    at = 0

    def number(n: int) -> int:
        nonlocal at
        at += n
        if at > len(bits):
            raise ValueError("the brush's code ends too early")
        return int("".join(map(str, bits[at - n : at])), 2)

    count, width, sizes = number(32), number(5) + 1, [number(4) + 1 for _ in range(4)]
    if count != CHANNELS * size[0] * size[1] or width != 8:
        raise ValueError(
            f"the brush's code has {count} numbers of {width} bits; {size[1]} x {size[0]} need others"
        )
    values, filled = np.empty(count, np.uint8), 0
    while filled < count:
        is_run, length = number(1), number(sizes[number(2)]) + 1
        if filled + length > count:
            raise ValueError("the brush's code has more pixels than the image")
        if is_run:
            values[filled : filled + length] = number(8)
        else:
            found = np.packbits(bits[at : at + 8 * length])
            at += 8 * length
            values[filled : filled + length] = found
        filled += length
    return values.reshape(*size, CHANNELS)[..., -1] >= MARKED


def encode(pixels: np.ndarray) -> list[int]:
    """The code of a mask, bool [h, w]."""
    flat = np.repeat(pixels.ravel(), CHANNELS)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [len(flat)]])
    longest = 2 ** SIZES[-1]
    bits = [f"{len(flat):032b}{7:05b}", *(f"{size - 1:04b}" for size in SIZES)]
    for start, stop in itertools.pairwise(starts):
        value = 255 if flat[start] else 0
        for at in range(start, stop, longest):
            bits.append(f"1{3:02b}{min(longest, stop - at) - 1:016b}{value:08b}")
    joined = "".join(bits)
    return np.packbits(np.frombuffer(joined.encode(), np.uint8) - ord("0")).tolist()

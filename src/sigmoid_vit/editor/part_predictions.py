"""What the network predicts for every image of a part: computed beside the work, kept on disk."""

import hashlib
import io
import json
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import torch

from sigmoid_vit.annotations.marked import outside
from sigmoid_vit.data import BadImage
from sigmoid_vit.editor.part_images import PartImages, write_cache
from sigmoid_vit.editor.predictor import Predictor

UNKNOWN, UNREADABLE = -1, -2  # in place of a class
QUIET = 0.5  # seconds without a person's request before the next batch
SAVE_EVERY = 10.0  # seconds
VERSION = 2  # of what is kept; 1 measured the attention outside the mask in another way
ARRAYS = ("prediction", "confidence", "p_true", "outside")


class PartPredictions:
    """The predictions of the n images of a part; `compute` fills them in.

    Attributes:
        prediction: class, int32 [n]; UNKNOWN as long as it is not computed, UNREADABLE for a damaged file.
        confidence, p_true: probability of that class and of the true one, float32 [n].
        outside: share of the last layer's softmax attention outside the mask, float32 [n] (see
            `marked.outside`); NaN without a mask.

    Args:
        cache: the file that keeps them.
        facts: what they depend on besides the images and their labels, such as the weights.
    """

    def __init__(self, images: PartImages, predictor: Predictor, cache: Path, facts: dict) -> None:
        self.images, self.predictor, self.cache, self.facts = images, predictor, cache, facts
        n = len(images)
        self.prediction = np.full(n, UNKNOWN, np.int32)
        self.confidence, self.p_true, self.outside = (np.full(n, np.nan, np.float32) for _ in range(3))
        self.batch_size = 64 if predictor.device.type == "cuda" else 4

    @property
    def ready(self) -> float:
        """Share of the images that are done, 0..1."""
        return float((self.prediction != UNKNOWN).mean())

    def compute(self, stop: threading.Event) -> None:
        """Fill in what is not on disk, until all is known or `stop` is set; people's requests go first."""
        key = self._key()
        self._load(key)
        todo, saved = np.flatnonzero(self.prediction == UNKNOWN), time.monotonic()
        for first in range(0, len(todo), self.batch_size):
            while self.predictor.idle_for() < QUIET and not stop.wait(QUIET / 5):
                pass
            if stop.is_set():
                break
            self._predict(todo[first : first + self.batch_size])
            if time.monotonic() - saved > SAVE_EVERY:
                self._save(key)
                saved = time.monotonic()
        if len(todo):
            self._save(key)

    def _predict(self, positions: np.ndarray) -> None:
        good, pixels = [], []
        for i in positions:
            try:
                pixels.append(self.images.pixels(i))
                good.append(i)
            except BadImage as error:
                print(f"error: {error}", file=sys.stderr)
                self.prediction[i] = UNREADABLE
        if not good:
            return
        probabilities, attention = (x.numpy() for x in self.predictor.predict_batch(torch.stack(pixels)))
        rows = np.arange(len(good))
        self.p_true[good] = probabilities[rows, self.images.part.labels[good]]
        self.confidence[good] = probabilities.max(1)
        self.outside[good] = [self._outside(i, maps) for i, maps in zip(good, attention, strict=True)]
        self.prediction[good] = probabilities.argmax(1)  # last: it says that the others are there

    def _outside(self, i: int, attention: np.ndarray) -> float:
        try:
            cover = self.images.cover(i, attention.shape)
        except BadImage as error:
            print(f"error: {error}", file=sys.stderr)
            cover = None
        if cover is None:
            return np.nan
        return outside(torch.from_numpy(attention)[None], torch.from_numpy(cover)[None].float()).item()

    def _key(self) -> str:
        """SHA-256 of everything the predictions depend on; files count by size and time of change."""
        part = self.images.part
        digest = hashlib.sha256(json.dumps([VERSION, self.facts, part.ids, part.labels.tolist()]).encode())
        if part.images is not None:
            digest.update(part.images.contiguous().numpy())
        digest.update(self.images.file_states().encode())
        return digest.hexdigest()

    def _load(self, key: str) -> None:
        try:
            with np.load(self.cache, allow_pickle=False) as kept:
                arrays = {name: kept[name] for name in ARRAYS}
                same = str(kept["key"]) == key
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # none, or a damaged one
            return
        if same and all(array.shape == self.prediction.shape for array in arrays.values()):
            for name, array in arrays.items():
                getattr(self, name)[:] = array

    def _save(self, key: str) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, key=np.array(key), **{name: getattr(self, name) for name in ARRAYS})
        write_cache(self.cache, buffer.getvalue())

"""CIFAR-10 in the other forms that it is published in: binary, MATLAB, and Hugging Face's parquet files.

Each reader gives a part's pixels, uint8 [n, 3, 32, 32], and labels [n], in the order of its files. Their
checksums are not published, so the number of images of each class is what tells a whole file.
"""

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat

from sigmoid_vit.errors import UserError

Pixels = tuple[np.ndarray, np.ndarray]
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PER_CLASS = {"train": 5000, "test": 1000}
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
PIXELS = 3 * 32 * 32
FOLDERS = {"bin": "cifar-10-batches-bin", "mat": "cifar-10-batches-mat"}
ARCHIVES = {"bin": "cifar-10-binary.tar.gz", "mat": "cifar-10-matlab.tar.gz"}


def read_form(root: Path, name: str) -> Pixels | None:
    """The part `name` (train or test) in the first form that lies in a folder; None if there is none.

    Raises:
        UserError: the files are damaged or not all there, or a package that reads them is missing.
    """
    for kind, decode in (("bin", _of_binary), ("mat", _of_matlab)):
        if files := _batches(root, kind, name):
            return _whole(decode, files, root, name)
    if files := _parquet(root, name):
        return _whole(_of_parquet, [path.read_bytes() for path in files], root, name)
    return None


def _batches(root: Path, kind: str, name: str) -> list[bytes]:
    """The content of a part's batches, from the published folder, or the archive of it; empty without any."""
    files = [f"{batch}.{kind}" for batch in BATCHES[name]]
    folder, archive = root / FOLDERS[kind], root / ARCHIVES[kind]
    try:
        if folder.is_dir():
            return [(folder / file).read_bytes() for file in files]
        if archive.is_file():
            with tarfile.open(archive) as opened:
                return [opened.extractfile(f"{FOLDERS[kind]}/{file}").read() for file in files]
    except (OSError, KeyError, EOFError, tarfile.TarError) as error:
        raise UserError(f"CIFAR-10 in {root} is incomplete or damaged ({error}): unpack it anew") from error
    return []


def _parquet(root: Path, name: str) -> list[Path]:
    """The parquet files of a part, under the names that Hugging Face has given them."""
    for folder in (root, root / "plain_text", root / "data"):
        for pattern in (f"*{name}*.parquet", f"{name}/*.parquet"):
            if files := sorted(folder.glob(pattern)):
                return files
    return []


def _whole(decode: Callable[[bytes], Pixels], files: list[bytes], root: Path, name: str) -> Pixels:
    """All files decoded, one behind the other."""
    try:
        pixels, labels = (np.concatenate(each) for each in zip(*map(decode, files), strict=True))
        counts = np.bincount(labels, minlength=len(CLASSES)).tolist()
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"CIFAR-10 in {root} is damaged ({error}): fetch it anew") from error
    if counts != [PER_CLASS[name]] * len(CLASSES):
        raise UserError(
            f"CIFAR-10 in {root} is incomplete: its {name} part has {counts} images of the classes, and not "
            f"{PER_CLASS[name]} of each; fetch it anew"
        )
    return pixels.reshape(-1, 3, 32, 32), labels


def _of_binary(content: bytes) -> Pixels:
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)  # the label, then the pixels
    return rows[:, 1:], rows[:, 0].astype(np.int64)


def _of_matlab(content: bytes) -> Pixels:
    batch = loadmat(io.BytesIO(content))
    return batch["data"].reshape(-1, PIXELS), batch["labels"].ravel().astype(np.int64)


def _of_parquet(content: bytes) -> Pixels:
    try:
        from pyarrow import parquet  # not every user needs it
    except ImportError as error:
        raise UserError("CIFAR-10 as parquet files needs one more package: pip install pyarrow") from error
    table = parquet.read_table(io.BytesIO(content))
    pictures = table.column("img" if "img" in table.column_names else "image")
    pixels = np.stack(list(_decoded(pictures)))
    return pixels.transpose(0, 3, 1, 2), table.column("label").to_numpy().astype(np.int64)


def _decoded(pictures: object) -> Iterator[np.ndarray]:
    """Pictures of a parquet column as uint8 [32, 32, 3]."""
    for picture in pictures:
        with Image.open(io.BytesIO(picture["bytes"].as_py())) as image:
            yield np.asarray(image.convert("RGB"))

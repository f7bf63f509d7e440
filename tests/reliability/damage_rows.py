"""Files that are damaged, hostile or full of surprises: said, or read as what they are."""

import csv
import functools
import http.server
import io
import json
import pickle
import shutil
import tarfile
import threading
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import numpy as np
import safetensors.numpy
import timm
import torch
from helpers.edits import filled_store
from helpers.weights import TINY, random_state
from PIL import Image
from timm.data import ImageDataset
from torchvision.datasets import CIFAR10

from sigmoid_vit.data import load_data
from sigmoid_vit.edits.exchange import export_edits, read_export
from sigmoid_vit.edits.maps import EditMaps, load_edits
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.model.checkpoints import load_checkpoint, load_into, save_checkpoint
from sigmoid_vit.model.weights import import_weights
from sigmoid_vit.runs.network import build_model

from . import material
from .harness import Row, outcome


class Hostile:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


def damaged(whole: bytes, random: np.random.Generator) -> bytes:
    """The content with a bit, a stretch or its end changed."""
    content, at = bytearray(whole), int(random.integers(len(whole)))
    length = int(random.integers(1, max(2, min(512, len(whole) // 4))))
    kind = random.integers(6)
    if kind <= 1:
        content[at] ^= 1 << int(random.integers(8))
    elif kind == 2:
        del content[at:]
    elif kind == 3:
        content[at : at + length] = bytes(len(content[at : at + length]))
    elif kind == 4:
        content[at : at + length] = random.bytes(len(content[at : at + length]))
    else:
        content[at:at] = random.bytes(length)
    return bytes(content)


class DamagedFiles(Row):
    promise = (
        "a damaged or hostile file (checkpoint, weights, store, export, config.json, log.jsonl, images.csv, "
        "edits.npz): read as something else, a traceback, or its code is run"
    )
    control = "the libraries' own readers: torch.load, numpy.load, json, csv, sqlite3"
    tries = (400, 8000)
    controls = (80, 400)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.run = run = material.a_run(folder, material.images(folder / "images"))
        for epoch in range(1, 4):
            run.log({"epoch": epoch, "loss": 1 / epoch, "val_accuracy": 0.1 * epoch})
        save_checkpoint(run.last, load_checkpoint(run.best) | {"epoch": 3})
        part = run.open_data().train
        self.ids = part.ids
        stored = material.store(folder / "all.sqlite", part, len(part))
        load_edits(str(stored), part, (4, 4))[0].write(run.edits, part.ids)
        self.settings, self.weights = run.settings(), folder / "weights.pt"
        torch.manual_seed(0)
        torch.save(build_model(self.settings, 2).state_dict(), self.weights)
        self.store = filled_store(folder / "edits.sqlite")
        with EditStore(self.store, readonly=True) as edits:
            export_edits(edits, folder / "exported", history=True)
        self.exported = folder / "exported"
        self.targets = [
            (run.best, self._checkpoint, _torch),
            (self.weights, self._weights, _torch),
            (self.store, self._history, _sqlite),
            (self.exported / "index.jsonl", self._export, _lines),
            (self.exported / "edits.safetensors", self._export, _tensors),
            (run.config, lambda: run.facts(), _json),
            (run.log_file, lambda: run.history(), _lines),
            (run.images, self._images, _csv),
            (run.edits, self._edits, _npz),
        ]
        self.expected = {path: (read(), plain(path)) for path, read, plain in self.targets}

    def attempt(self, number, folder, random, protected):
        path, read, plain = self.targets[number % len(self.targets)]
        whole, canary = path.read_bytes(), folder / "canary"
        pickles = path.suffix in (".pt", ".npz") and number // len(self.targets) % 8 == 0
        expected = self.expected[path][not protected]
        try:
            path.write_bytes(_hostile(path, canary) if pickles else damaged(whole, random))
            kind, found, said = outcome(read if protected else lambda: plain(path))
        finally:
            path.write_bytes(whole)
        if canary.exists():
            return f"{path.name}: its code was run"
        if kind == "traceback":
            return f"{path.name}: {said.strip().splitlines()[-1]}"
        return f"{path.name}: read as something else" if kind == "done" and found != expected else ""

    def _checkpoint(self):
        state = load_checkpoint(self.run.best)
        return state["epoch"], {key: value.numpy().tobytes() for key, value in state["model"].items()}

    def _weights(self):
        model = build_model(self.settings, 2)
        load_into(model, self.weights, new_head=False)
        return {key: value.numpy().tobytes() for key, value in model.state_dict().items()}

    def _history(self):
        with EditStore(self.store, readonly=True) as edits:
            return [_plain(edit) for edit in edits.history()]

    def _export(self):
        return [_plain(edit) for edit in read_export(self.exported)]

    def _images(self):
        data = self.run.open_data()
        return data.train.ids, data.val.ids

    def _edits(self):
        maps = EditMaps.read(self.run.edits, self.ids)
        return maps.value.tolist(), maps.edited.tolist(), maps.propagated.tolist()


def _plain(edit) -> tuple:
    return edit.image_id, edit.revision, edit.value.tobytes(), edit.edited.tobytes(), edit.note, edit.author


def _torch(path):
    state = torch.load(path, weights_only=False)
    return {key: str(value) for key, value in state.get("model", state).items()}


def _sqlite(path):
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT * FROM edit").fetchall()


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def _tensors(path):
    return {key: value.tobytes() for key, value in safetensors.numpy.load(path.read_bytes()).items()}


def _json(path):
    return json.loads(path.read_text())


def _csv(path):
    return list(csv.reader(io.StringIO(path.read_text())))


def _npz(path):
    with np.load(path, allow_pickle=True) as file:
        return {name: file[name].tolist() for name in file.files}


def _hostile(path: Path, canary: Path) -> bytes:
    file = io.BytesIO()
    if path.suffix == ".pt":
        torch.save({"model": {"w": Hostile(canary)}, "epoch": 1}, file)
    else:
        np.savez(file, value=np.array([Hostile(canary)], dtype=object), ids=np.array(["a"]))
    return file.getvalue()


class OddImages(Row):
    promise = (
        "an image file that is cut, empty, no image, a bomb, of floats, CMYK, 16 bits, a palette, turned by "
        "EXIF or wrongly named: replaced, mislabelled or shown as something else, without a word"
    )
    control = "timm's ImageDataset"
    tries = (30, 1000)
    controls = (10, 50)
    kinds = ("cut", "empty", "text", "bomb", "floats", "cmyk", "16 bits", "palette", "exif", "wrong suffix")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.images = material.images(folder / "images", per_class=3)

    def attempt(self, number, folder, random, protected):
        kind = self.kinds[number % len(self.kinds)]
        images = shutil.copytree(self.images, folder / "images")
        label = int(random.integers(2))
        name = f"train/{'ab'[label]}/{random.choice(['00x', '01x', 'zz'])}"
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        coarse[0, 0], coarse[3, 3] = (255, 0, 0), (0, 0, 255)  # a turned one is told apart
        truth = np.asarray(Image.fromarray(coarse).resize((16, 16), Image.Resampling.NEAREST))
        path, shown = odd_image(images / name, kind, truth, random)
        found = (
            self._read(images, skip=number // len(self.kinds) % 2 == 1) if protected else self._timm(images)
        )
        if isinstance(found, str):  # refused
            if path.name in found and shown is None:
                return ""
            return f"{kind}: refused with {found[:200]}" if shown is not None else f"{kind}: {found[:200]}"
        pixels, skipped = found
        if shown is None and path.name not in skipped:
            return f"{kind}: it is not named"
        expected = {p: np.asarray(Image.open(p)) for p in self.images.rglob("*.png")}
        expected = {images / p.relative_to(self.images): p_ for p, p_ in expected.items()}
        if shown is not None:
            expected[path] = shown
        if len(pixels) != len(expected):
            return f"{kind}: {len(pixels)} images in place of {len(expected)}"
        for (place, true), (label_of, image) in zip(sorted(expected.items()), pixels, strict=True):
            off = np.abs(image.astype(int) - true.astype(int)).mean()
            if label_of != "ab".index(place.parent.name) or off > 12:
                return f"{kind}: {place.name} is shown as something else"
        return ""

    def _read(self, images: Path, skip: bool):
        def read():
            data = load_data("folder", images, val_fraction=0, skip_bad_images=skip)
            prepared = data.train.prepare((material.SIZE, material.SIZE))
            pixels = prepared.pixels(range(len(prepared))).permute(0, 2, 3, 1).numpy()
            return list(zip(prepared.part.labels.tolist(), pixels, strict=True))

        kind, result, said = outcome(read)
        if kind == "done":
            return result, said
        return said if kind == "told" or "cannot be used" in said else f"traceback {said}"

    def _timm(self, images: Path):
        data = ImageDataset(str(images / "train"))
        size = (material.SIZE, material.SIZE)
        try:
            return [
                (y, np.asarray(image.resize(size))) for image, y in (data[i] for i in range(len(data)))
            ], ""
        except Exception as error:
            return f"traceback {error!r}"


def odd_image(stem: Path, kind: str, truth: np.ndarray, random) -> tuple[Path, np.ndarray | None]:
    """Write an image file of a kind; its path, and the pixels [h, w, 3] it shows (None: it is unusable)."""
    picture, png = Image.fromarray(truth), stem.with_suffix(".png")
    if kind in ("cut", "empty", "text", "bomb"):
        if kind == "bomb":
            Image.new("1", (12_000, 12_000)).save(png)
        else:
            picture.save(png)
            whole = png.read_bytes()
            half = whole[: int(len(whole) * random.uniform(0.2, 0.8))]
            png.write_bytes({"cut": half, "empty": b"", "text": b"<html></html>"}[kind])
        return png, None
    if kind == "floats":
        path = stem.with_suffix(".tif")
        Image.fromarray(truth[..., 0].astype(np.float32) / 255).save(path)
        return path, np.repeat(truth[..., :1], 3, -1)
    if kind == "cmyk":
        path = stem.with_suffix(".jpg")
        flat = Image.new("RGB", (16, 16), tuple(int(v) for v in truth[8, 8]))
        flat.convert("CMYK").save(path, quality=95)
        return path, np.asarray(flat)
    if kind == "16 bits":
        grey = truth[..., 0]
        Image.frombytes("I;16", (16, 16), (grey.astype("<u2") * 257).tobytes()).save(png)
        return png, np.repeat(grey[..., None], 3, -1)
    if kind == "palette":
        indexed = picture.quantize(16)
        indexed.save(png)
        return png, np.asarray(indexed.convert("RGB"))
    if kind == "exif":
        exif = Image.Exif()
        exif[0x0112] = 6  # stored turned a quarter to the left
        Image.fromarray(np.ascontiguousarray(np.rot90(truth, 1))).save(png, exif=exif)
        return png, truth
    path = stem.with_suffix(".jpg")  # a PNG file of the name .jpg
    picture.save(path, "PNG")
    return path, truth


class Archives(Row):
    promise = (
        "an archive of CIFAR-10 or a file of weights that is cut, another one or hostile: files outside of "
        "its folder, code run, or a usable file that is wrong"
    )
    control = "no checksum of the archive; torch.load and torch.save for weights"
    tries = (30, 300)
    controls = (6, 30)
    kinds = ("archive cut", "another archive", "archive that leaves its folder", "page in its place")
    kinds += ("weights cut", "hostile weights", "weights of another model", "weights with NaN")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        timm.create_model(TINY)

    def attempt(self, number, folder, random, protected):
        kind = self.kinds[number % len(self.kinds)]
        inside = folder / "house" / "data"
        inside.mkdir(parents=True)
        before, canary = _tree(folder), folder / "canary"
        if "weights" in kind:
            wrong = self._weights(kind, folder, inside, random, protected)
        else:
            wrong = self._archive(kind, folder, inside, random, protected)
        if canary.exists():
            return f"{kind}: its code was run"
        outside = [p for p in _tree(folder) - before if inside not in p.parents and p.suffix != ".given"]
        return f"{kind}: {outside[0]} appeared outside" if outside else wrong

    def _archive(self, kind, folder, inside, random, protected) -> str:
        whole = _archive_of(kind)
        content = {
            "archive cut": whole[: int(len(whole) * random.uniform(0.1, 0.9))],
            "page in its place": b"<html>",
        }
        content = content.get(kind, whole)
        if random.integers(2):  # it lies there, as if fetched by hand
            (inside / CIFAR10.filename).write_bytes(content)
        with _served(content) as url, patch.object(CIFAR10, "url", url), ExitStack() as stack:
            if not protected:
                stack.enter_context(patch("torchvision.datasets.utils.check_md5", lambda *_: True))
                stack.enter_context(patch("torchvision.datasets.cifar.check_integrity", lambda *_: True))
                stack.enter_context(
                    patch("tarfile.TarFile.extraction_filter", staticmethod(lambda m, _: m), create=True)
                )
            result, _, said = outcome(lambda: load_data("cifar10", inside))
        if result == "done":
            return f"{kind}: it is used"
        return f"{kind}: {said.strip().splitlines()[-1]}" if result == "traceback" else ""

    def _weights(self, kind, folder, inside, random, protected) -> str:
        given = folder / "weights.pt"
        state = random_state(TINY)
        if kind == "hostile weights":
            state["head.weight"] = Hostile(folder / "canary")
        elif kind == "weights of another model":
            state = random_state("test_vit2")
        elif kind == "weights with NaN":
            state["head.weight"][0] = torch.nan
        torch.save(state, given)
        if kind == "weights cut":
            whole = given.read_bytes()
            given.write_bytes(whole[: int(len(whole) * random.uniform(0.1, 0.95))])
        given = given.rename(given.with_suffix(".pt.given"))
        source = given.rename(inside / "from.pt")

        def take():
            if protected:
                return import_weights(TINY, source, inside)
            torch.save(torch.load(source, weights_only=False), inside / f"{TINY}.pt")
            return None

        result, _, said = outcome(take)
        if (inside / f"{TINY}.pt").exists():
            return f"{kind}: it is used"
        return f"{kind}: {said.strip().splitlines()[-1]}" if result == "traceback" else ""


@functools.cache
def _archive_of(kind: str) -> bytes:
    """A tar.gz of the published layout, with other content than the published one."""
    file, random = io.BytesIO(), np.random.default_rng(0)
    with tarfile.open(fileobj=file, mode="w:gz") as archive:

        def add(name, content):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        for name, _ in CIFAR10.train_list + CIFAR10.test_list:
            pixels = random.integers(0, 256, (20, 3072), dtype=np.uint8)
            add(
                f"{CIFAR10.base_folder}/{name}",
                pickle.dumps({"data": pixels, "labels": [i % 10 for i in range(20)]}),
            )
        names = [f"name{k}" for k in range(10)]
        add(f"{CIFAR10.base_folder}/{CIFAR10.meta['filename']}", pickle.dumps({"label_names": names}))
        if kind == "archive that leaves its folder":
            add("../../outside.txt", b"outside")
    return file.getvalue()


@contextmanager
def _served(content: bytes):
    """An address that gives the content."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{CIFAR10.filename}"
        server.shutdown()


def _tree(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if p.is_file()}

"""A run with random weights, its editor in this process, and a client that asks it as the page does."""

import json
import secrets
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from helpers.reference import TINY, tiny_model
from PIL import Image
from starlette.testclient import TestClient
from torch import nn

from sigmoid_vit.data import load_data
from sigmoid_vit.editor import EditorOptions
from sigmoid_vit.editor.app import create_app
from sigmoid_vit.editor.security import Policy, allowed_hosts
from sigmoid_vit.editor.session import Session
from sigmoid_vit.edits.store import StoredEdit
from sigmoid_vit.files import sealed, write_json
from sigmoid_vit.model.checkpoints import load_checkpoint, save_checkpoint
from sigmoid_vit.runs.command_line import SettingsParser
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.kept_images import KeptImages
from sigmoid_vit.runs.network import Network, build_model

PORT = 8765
OWN = f"http://127.0.0.1:{PORT}"
BINARY, JSON = "application/octet-stream", "application/json"
HOSTILE = "<img src=x onerror=alert(1)>"
SMALL = ("--img_size", "32", "--model_name", "vit_tiny_patch16_224", "--pretrained", "false")
SMALL += ("--model_kwargs", "patch_size=8", "embed_dim=24", "depth=2", "num_heads=2")


def make_run(folder, *args):
    """A run as training leaves it, on digits_decoy unless args say otherwise, with random weights."""
    base = ["--dataset", "digits_decoy", "--result_dir", str(folder), "--runs_name", "run"]
    settings = SettingsParser("").parse_settings([*base, *args])
    data = load_data(settings.dataset, settings.dataset_path, settings.val_fraction, settings.seed)
    torch.manual_seed(0)
    model = build_model(settings, len(data.classes))
    with torch.no_grad():  # attention and predictions far from uniform
        for block in model.blocks:
            block.attn.qkv.weight.mul_(15)
        model.head.weight.normal_()
    run = Run.open(settings)
    run.create(settings, KeptImages.of(data.train, data.val, data.all_ids), classes=list(data.classes))
    save_checkpoint(run.best, {"model": model.state_dict()})
    return run


def make_step_2_run(folder, first):
    """A run that says it started from a copy of `first` beside it; its network predicts the opposite."""
    started_from, folder = Path(folder) / "first", Path(folder) / "second"
    for copy in (started_from, folder):
        shutil.copytree(first.folder, copy, ignore=shutil.ignore_patterns("editor_cache"))
    run = Run(folder)
    facts = run.facts()
    facts["settings"] |= {"first_step": str(started_from), "control": "no_edits"}
    write_json(run.config, sealed(facts))
    weights = load_checkpoint(run.best)["model"]
    for name in ("head.weight", "head.bias"):
        weights[name] = -weights[name]
    save_checkpoint(run.best, {"model": weights})
    return run


def a_network(**kwargs):
    """A tiny network of 5 classes with random weights; its input is 32 pixels, its grid 4 x 4."""
    model = tiny_model(**kwargs)
    nn.init.normal_(model.head.weight)
    settings = SettingsParser("").parse_settings(["--dataset", "folder", "--img_size", str(TINY["img_size"])])
    return Network(model, settings, classes=list("abcde"))


def make_images(folder, sizes, classes=("a", "b"), parts=("train", "val"), suffix=".png"):
    """A data set `folder` with an image of each of the (width, height) sizes in every class of every part."""
    random = np.random.RandomState(0)
    for part in parts:
        for name in classes:
            where = Path(folder) / part / name
            where.mkdir(parents=True)
            for i, (w, h) in enumerate(sizes):
                Image.fromarray(random.randint(0, 256, (h, w, 3), np.uint8)).save(where / f"{i}{suffix}")
    return Path(folder)


def app_of(session, **options):
    return create_app(session, Policy(allowed_hosts("127.0.0.1", PORT), token="secret"), **options)


class Page:
    """The page's side of the contract; `grid` of the editor it talks to."""

    def __init__(self, app, **options):
        headers = {"Authorization": "Bearer secret"}
        self.http = TestClient(app, base_url=OWN, headers=headers, follow_redirects=False, **options)
        self.session = app.state.session
        self.grid = self.session.predictor.grid

    def __enter__(self):
        self.http.__enter__()
        return self

    def __exit__(self, *exc):
        self.http.__exit__(*exc)

    def get(self, path, **params):
        return self.http.get(f"/api/{path}", params=params)

    def post(self, path, body=b"", kind=BINARY, headers=(), **params):
        headers = {"Origin": OWN, "Content-Type": kind, **dict(headers)}
        return self.http.post(f"/api/{path}", params=params, content=body, headers=headers)

    def change(self, path, body=b"", kind=BINARY, base="none", client_id=None, **params):
        params = {"base": base, "client_id": client_id or secrets.token_hex(8), **params}
        return self.post(path, body, kind, **params)

    def save(self, k, value=0.0, cells=((0, 0),), **params):
        return self.change(f"images/{k}/edit", self.body(value, cells), **params)

    def skip(self, k, reason="unclear", **params):
        return self.change(f"images/{k}/skip", json.dumps({"reason": reason}).encode(), JSON, **params)

    def body(self, value=0.0, cells=((0, 0),)):
        """A binary grid with this value in these edited cells."""
        values, edited = np.zeros(self.grid, "<f4"), np.zeros(self.grid, np.uint8)
        for cell in cells:
            values[cell], edited[cell] = value, 1
        return values.tobytes() + edited.tobytes()


def open_page(run, edits, **options):
    """The page of an editor in this process; use it in a `with`, which starts and ends the editor."""
    return Page(app_of(Session(EditorOptions(str(run.folder), str(edits), **options))))


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def all_predicted(page):
    """Wait until the queue changes no more by itself."""
    wait_for(lambda: page.get("queue").json()["ready"] == 1)


def items(page, **params):
    response = page.get("queue", **params)
    assert response.status_code == 200
    return response.json()["items"]


def stored_edit(page, k, author="mika", cells=((0, 0),), **changes):
    """An edit as another program puts it into the store before the editor is opened."""
    value, edited = np.zeros(page.grid, np.float32), np.zeros(page.grid, bool)
    for cell in cells:
        edited[cell] = True
    part = page.session.part
    return StoredEdit(part.ids[k], part.sha256(k), value, edited, author, **changes)

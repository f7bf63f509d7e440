"""Weights are exactly timm's, come with a record, and a wrong file is refused in one sentence."""

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from helpers.weights import TINY, files_below, random_state, same, without

from sigmoid_vit.errors import UserError
from sigmoid_vit.files import sha256
from sigmoid_vit.model.checkpoints import load_checkpoint, load_into
from sigmoid_vit.model.weights import download_pretrained, import_weights, stock_model

SCRIPT = Path(__file__).parents[2] / "src" / "load_pretrained.py"

DISTILLED = "deit_tiny_distilled_patch16_224"


@pytest.fixture
def hub(monkeypatch, offline):
    """A hub that publishes random states; maps the ids that were asked for to what was given."""
    given = {}

    def publish(hub_id, *args, **kwargs):
        given[hub_id] = random_state(hub_id.removeprefix("timm/"), seed=len(given))
        return dict(given[hub_id])

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", publish)
    return given


# -------------------------------------------------------------------------------- published weights


@pytest.mark.parametrize(
    "model_name, has_head",
    [
        (TINY, True),
        ("test_vit.r160_in1k", True),
        ("test_vit3", True),  # attention pooling, no class token
        (DISTILLED, True),
        ("vit_small_patch16_224.dino", False),
    ],
)
def test_a_download_is_the_published_state_with_a_record(tmp_path, hub, model_name, has_head):
    path = download_pretrained(model_name, tmp_path)
    (hub_id,) = hub
    assert path == tmp_path / f"{model_name}.pt"
    state = torch.load(path, weights_only=True)
    assert same(state, hub[hub_id])
    assert ("head.weight" in state) == has_head

    model = timm.create_model(model_name)
    assert load_into(model, path, new_head=False).matched == len(state)
    assert same(model.state_dict(), state)

    record = json.loads((tmp_path / f"{model_name}.json").read_text())
    published = model.pretrained_cfg
    assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["source"] == hub_id == published["hf_hub_id"]
    assert record["tag"] == published["tag"]
    for field in ("mean", "std", "input_size"):
        assert tuple(record[field]) == published[field]
    assert record["interpolation"] == published["interpolation"]
    assert record["num_classes"] == model.num_classes
    assert record["versions"] == {"timm": timm.__version__, "torch": torch.__version__}
    assert files_below(tmp_path) == [f"{model_name}.json", f"{model_name}.pt"]


def test_an_intact_file_is_kept_and_a_damaged_one_is_not_overwritten_unasked(tmp_path, hub, capsys):
    path = download_pretrained(TINY, tmp_path)
    before = path.read_bytes()
    capsys.readouterr()
    download_pretrained(TINY, tmp_path)
    assert "already there and intact" in capsys.readouterr().out
    assert len(hub) == 1

    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(UserError, match=r"test_vit\.pt does not match its record .* --force"):
        download_pretrained(TINY, tmp_path)
    download_pretrained(TINY, tmp_path, force=True)
    assert same(load_checkpoint(path), hub["timm/test_vit.r160_in1k"])

    path.with_suffix(".json").write_text("[]")
    with pytest.raises(UserError, match="does not match its record"):
        download_pretrained(TINY, tmp_path)


def test_a_download_that_stops_anywhere_leaves_no_file_under_the_final_name(tmp_path, hub, monkeypatch):
    replace, renamed = os.replace, []

    def replace_until(allowed):
        def stop_or_replace(source, target):
            if len(renamed) >= allowed:
                raise KeyboardInterrupt
            renamed.append(target)
            replace(source, target)

        return stop_or_replace

    for allowed in (0, 1):  # before the record's rename, between the record's and the weights'
        renamed.clear()
        monkeypatch.setattr(os, "replace", replace_until(allowed))
        with pytest.raises(KeyboardInterrupt):
            download_pretrained(TINY, tmp_path)
        assert files_below(tmp_path) == ["test_vit.json"] * allowed
    monkeypatch.setattr(os, "replace", replace)
    assert download_pretrained(TINY, tmp_path).is_file()  # a record without weights does not get in the way


@pytest.mark.parametrize(
    "model_name, sentence",
    [
        ("vit_small_patch16_244", "not a model of timm; did you mean vit_small_patch16_224"),
        ("vit_small_patch16_224.dinoo", r"not a model of timm; did you mean .*vit_small_patch16_224\.dino"),
        ("vit_small_patch16_224_dino", r"it is now called vit_small_patch16_224\.dino"),
        ("../test_vit", "not a model of timm"),
        ("test_vit./../x", "not a model of timm"),
        ("hf-hub:timm/test_vit", "not a model of timm"),
        ("", "not a model of timm"),
        ("resnet18", "resnet18 is no Vision Transformer"),
        ("test_vit4", "timm publishes no weights for test_vit4; did you mean test_vit"),
    ],
)
def test_a_name_that_cannot_be_fetched_is_refused(tmp_path, hub, model_name, sentence):
    with pytest.raises(UserError, match=sentence):
        download_pretrained(model_name, tmp_path)
    assert not hub
    assert not files_below(tmp_path)


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's interface that fetching one file uses; `stall` sends half and then waits."""

    body, stall = b"", threading.Event()

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(self.body).hexdigest()}"')
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.body[: len(self.body) // 2])
        self.wfile.flush()
        while self.stall.is_set():
            time.sleep(0.01)
        self.wfile.write(self.body[len(self.body) // 2 :])

    def log_message(self, *args):
        pass


@pytest.fixture
def local_hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Hub.body = safetensors.torch.save(random_state())
    Hub.stall.clear()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Hub.stall.clear()
    server.shutdown()


def start_script(folder, endpoint, *arguments):
    command = [sys.executable, SCRIPT, "--model_name", TINY, "--save_dir", folder / "models", *arguments]
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "hub"),
        "TQDM_POSITION": "-1",
    }
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )


@pytest.mark.slow
def test_the_script_fetches_through_the_hub_with_a_bar_and_survives_a_kill(tmp_path, local_hub):
    Hub.stall.set()
    killed = start_script(tmp_path, local_hub)
    give_up = time.time() + 180
    while not list(tmp_path.rglob("*.incomplete")) and time.time() < give_up:
        time.sleep(0.05)
    killed.kill()
    killed.communicate()
    assert list(tmp_path.rglob("*.incomplete"))  # it was in the middle
    assert not (tmp_path / "models").exists()

    Hub.stall.clear()
    script = start_script(tmp_path, local_hub)
    out, bar = script.communicate(timeout=180)
    assert script.returncode == 0
    assert "saved from timm/test_vit.r160_in1k" in out
    assert "100%" in bar
    assert same(load_checkpoint(tmp_path / "models" / "test_vit.pt"), safetensors.torch.load(Hub.body))


@pytest.mark.slow
def test_without_a_network_the_script_says_so_in_one_line_and_soon(tmp_path):
    nowhere, start = "http://127.0.0.1:1", time.time()  # refused, which the hub would retry for 46 s
    start_script(tmp_path, nowhere, "--model_name", "no_such_model").communicate()  # asks no hub
    to_start = time.time() - start
    script = start_script(tmp_path, nowhere)
    out, err = script.communicate()
    assert time.time() - start < 2 * to_start + 25
    assert script.returncode == 1
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: the weights of test_vit could not be downloaded")
    assert err.endswith("python3 src/load_pretrained.py --model_name test_vit --from_file PATH\n")
    assert not (tmp_path / "models").exists()


# -------------------------------------------------------------------------------- import


def jax_layout(state, heads=2):
    """A state of timm in the names and axes of the augreg .npz files ("How to train your ViT?")."""
    arrays = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    width = state["cls_token"].shape[-1]
    for i in range(sum(key.endswith("norm1.weight") for key in state)):
        block, jax = f"blocks.{i}", f"Transformer/encoderblock_{i}"
        attention = f"{jax}/MultiHeadDotProductAttention_1"
        for j, name in enumerate(("query", "key", "value")):
            rows = slice(j * width, (j + 1) * width)
            arrays[f"{attention}/{name}/kernel"] = state[f"{block}.attn.qkv.weight"][rows].T.reshape(
                width, heads, -1
            )
            arrays[f"{attention}/{name}/bias"] = state[f"{block}.attn.qkv.bias"][rows].reshape(heads, -1)
        arrays[f"{attention}/out/kernel"] = state[f"{block}.attn.proj.weight"].T.reshape(heads, -1, width)
        arrays[f"{attention}/out/bias"] = state[f"{block}.attn.proj.bias"]
        for timm_name, jax_name in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            arrays[f"{jax}/{jax_name}/scale"] = state[f"{block}.{timm_name}.weight"]
            arrays[f"{jax}/{jax_name}/bias"] = state[f"{block}.{timm_name}.bias"]
        for j in range(2):
            arrays[f"{jax}/MlpBlock_3/Dense_{j}/kernel"] = state[f"{block}.mlp.fc{j + 1}.weight"].T
            arrays[f"{jax}/MlpBlock_3/Dense_{j}/bias"] = state[f"{block}.mlp.fc{j + 1}.bias"]
    return {name: np.ascontiguousarray(array.numpy()) for name, array in arrays.items()}


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def save_legacy(obj, path):
    torch.save(obj, path, _use_new_zipfile_serialization=False)


FORMATS = {
    "plain.pt": torch.save,
    "legacy.pth": save_legacy,
    "model.bin": lambda state, path: torch.save({"model": state, "epoch": 3}, path),
    "ddp.pth": lambda state, path: torch.save({"state_dict": prefixed(state, "module.")}, path),
    "compiled.pth": lambda state, path: torch.save(prefixed(state, "_orig_mod."), path),
    "teacher.pth": lambda state, path: save_legacy(
        {
            "student": prefixed(random_state(seed=1), "module.backbone."),
            "teacher": prefixed(state, "backbone.") | {"head.mlp.0.weight": torch.zeros(3, 3)},
        },
        path,
    ),
    "half.pt": lambda state, path: torch.save({key: value.half() for key, value in state.items()}, path),
    "published.safetensors": safetensors.torch.save_file,
    "augreg.npz": lambda state, path: np.savez(path, **jax_layout(state)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_an_import_is_exactly_what_the_file_holds(tmp_path, offline, name):
    state, source, folder = random_state(seed=5), tmp_path / name, tmp_path / "models"
    FORMATS[name](state, source)
    path = import_weights(TINY, source, folder)
    if name == "half.pt":
        state = {key: value.half().float() for key, value in state.items()}
    assert same(load_checkpoint(path), state)
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["source"] == f"file {name}"
    assert record["sha256"] == sha256(path)
    assert files_below(folder) == ["test_vit.json", "test_vit.pt"]


def deit3_layout(state):
    return {"model": {re.sub(r"ls(\d)\.gamma", r"gamma_\1", key): value for key, value in state.items()}}


def dinov2_layout(state):
    """Class token with a position of its own, registers under another name, a mask token."""
    layout = without(state, "reg_token") | {"register_tokens": state["reg_token"]}
    layout["mask_token"] = torch.zeros(1, state["cls_token"].shape[-1])
    layout["pos_embed"] = torch.cat([torch.zeros_like(state["cls_token"]), state["pos_embed"]], dim=1)
    return layout


@pytest.mark.parametrize(
    "model_name, layout",
    [
        ("test_vit2", deit3_layout),
        ("vit_small_patch14_reg4_dinov2", dinov2_layout),
        (TINY, lambda state: state | {"pre_logits.fc.weight": torch.zeros(64, 64)}),
    ],
)
def test_an_original_layout_is_converted_to_timms(tmp_path, offline, model_name, layout):
    state = random_state(model_name)
    torch.save(layout(state), tmp_path / "original.pth")
    path = import_weights(model_name, tmp_path / "original.pth", tmp_path)
    assert same(load_checkpoint(path), state)


def test_an_import_keeps_an_intact_file_unless_forced(tmp_path, offline, capsys):
    torch.save(random_state(seed=1), tmp_path / "a.pt")
    torch.save(random_state(seed=2), tmp_path / "b.pt")
    path = import_weights(TINY, tmp_path / "a.pt", tmp_path / "models")
    import_weights(TINY, tmp_path / "b.pt", tmp_path / "models")
    assert "already there and intact (from file a.pt); --force" in capsys.readouterr().out
    assert same(load_checkpoint(path), random_state(seed=1))
    import_weights(TINY, tmp_path / "b.pt", tmp_path / "models", force=True)
    assert same(load_checkpoint(path), random_state(seed=2))


def saved_jax(path, state, drop=()):
    np.savez(path, **without(jax_layout(state), *drop))


def saved_damaged(path, save):
    """Write the file, then flip one bit in the middle of its largest tensor."""
    state = random_state()
    save(state, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


WRONG_FILES = {
    "missing.pt": (lambda path: None, r"missing\.pt does not exist"),
    "empty.pt": (lambda path: path.touch(), r"empty\.pt is damaged"),
    "page.pth": (lambda path: path.write_text("<html>"), r"page\.pth is damaged"),
    "page.npz": (lambda path: path.write_text("<html>"), r"page\.npz is damaged"),
    "page.safetensors": (lambda path: path.write_text("<html>"), r"page\.safetensors is damaged"),
    "bit.pt": (lambda path: saved_damaged(path, torch.save), "wrong checksum|Bad CRC"),
    "bit.npz": (lambda path: saved_damaged(path, FORMATS["augreg.npz"]), "wrong checksum|Bad CRC"),
    "list.pt": (lambda path: torch.save([1, 2], path), r"list\.pt is damaged, not a file of weights"),
    "optimizer.pt": (
        lambda path: torch.save({"lr": 0.1}, path),
        r"80 of 80 keys missing \(cls_token, .*, …\)",
    ),
    "key.pt": (
        lambda path: torch.save(without(random_state(), "norm.bias"), path),
        r"1 of 80 keys missing \(norm\.bias\)",
    ),
    "more.pt": (
        lambda path: torch.save(random_state() | {"head.2.bias": torch.zeros(1)}, path),
        r"1 keys unexpected \(head\.2\.bias\)",
    ),
    "classes.pt": (
        lambda path: torch.save(random_state(num_classes=7), path),
        r"head\.weight \(7, 64\) instead of \(1000, 64\)",
    ),
    "size.pt": (
        lambda path: torch.save(random_state(img_size=64), path),
        r"pos_embed \(1, 17, 64\) instead of \(1, 101, 64\)",
    ),
    "number.pt": (
        lambda path: torch.save(random_state() | {"norm.bias": 3}, path),
        r"norm\.bias None instead",
    ),
    "nan.pt": (
        lambda path: torch.save(random_state() | {"norm.bias": torch.full((64,), torch.nan)}, path),
        r"no finite values for norm\.bias",
    ),
    "other.safetensors": (
        lambda path: safetensors.torch.save_file(random_state("test_vit4"), path),
        "keys unexpected",
    ),
    "headless.npz": (
        lambda path: saved_jax(path, random_state(), ("head/kernel", "head/bias")),
        r"no finite values for head\.weight, head\.bias",
    ),
    "classes.npz": (
        lambda path: saved_jax(path, random_state(num_classes=7)),
        r"no finite values for head\.weight, head\.bias",
    ),
    "norm.npz": (
        lambda path: saved_jax(path, random_state(), ("Transformer/encoder_norm/bias",)),
        "KeyError: .*encoder_norm/bias",
    ),
    "shallow.npz": (lambda path: saved_jax(path, random_state(depth=5)), "KeyError: .*encoderblock_5"),
    "deep.npz": (lambda path: saved_jax(path, random_state(depth=7)), "keys unexpected .*encoderblock_6"),
    "wide.npz": (
        lambda path: saved_jax(path, random_state(embed_dim=32)),
        r"wide\.npz is damaged or not this model",
    ),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_wrong_file_is_refused_in_one_sentence_and_nothing_is_written(tmp_path, offline, name):
    write, sentence = WRONG_FILES[name]
    source, folder = tmp_path / name, tmp_path / "models"
    write(source)
    with pytest.raises(UserError, match=sentence) as caught:
        import_weights(TINY, source, folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not folder.exists()


def test_stock_model_is_timms_and_costs_nothing_on_meta():
    model = stock_model(TINY)
    assert model.state_dict().keys() == timm.create_model(TINY).state_dict().keys()
    assert {
        parameter.device.type for parameter in stock_model("vit_giant_patch14_224", "meta").parameters()
    } == {"meta"}

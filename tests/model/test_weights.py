"""Weights survive kills and flipped bits, are exactly timm's, and a wrong file is refused in one sentence."""

import hashlib
import http.server
import json
import os
import pickle
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from sigmoid_vit import files
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import sha256, write_atomically
from sigmoid_vit.model.checkpoints import default_weights_path, load_checkpoint, load_into, save_checkpoint
from sigmoid_vit.model.weights import download_pretrained, import_weights, stock_model

SCRIPT = Path(__file__).parents[1] / "src" / "load_pretrained.py"
TINY = "test_vit"  # timm's own small ViT: 6 blocks, 64 channels, 160 x 160 pixels, patch 16
DISTILLED = "deit_tiny_distilled_patch16_224"


def random_state(model_name=TINY, seed=0, **kwargs):
    """A state dict in timm's layout whose every tensor is random, so that no two entries can be confused."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = timm.create_model(model_name, **kwargs).state_dict()
    return {key: torch.randn(value.shape, generator=generator) for key, value in shapes.items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def files_below(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def offline(monkeypatch):
    """Nothing in these tests may reach the network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def hub(monkeypatch, offline):
    """A hub that publishes random states; maps the ids that were asked for to what was given."""
    given = {}

    def publish(hub_id, *args, **kwargs):
        given[hub_id] = random_state(hub_id.removeprefix("timm/"), seed=len(given))
        return dict(given[hub_id])

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", publish)
    return given


# ------------------------------------------------------------------------------------------------ files


def keep_writing(path, size, first):
    """Write the file again and again, each version `size` times one byte, until killed."""
    try:
        for version in range(first, 10_000):
            parts = [bytes([version % 256]) * 1000] * (size // 1000)
            write_atomically(path, lambda file, parts=parts: file.writelines(parts))
    finally:
        os._exit(1)


def test_a_killed_writer_leaves_the_old_or_the_new_file_whole(tmp_path):
    path, size, seen = tmp_path / "file", 2_000_000, set()
    path.touch()
    for kill in range(25):
        before = path.stat().st_ino
        child = os.fork()
        if child == 0:
            keep_writing(path, size, first=7 * kill)
        while path.stat().st_ino == before:  # this writer is at work
            time.sleep(0.001)
        time.sleep(random.Random(kill).uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        content = path.read_bytes()
        assert content == content[:1] * size
        seen.add(content[:1])
    assert len(seen) > 1


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    def write(file):
        file.write(b"half")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert files_below(tmp_path) == ["file"]


def test_a_full_disk_is_said_in_a_sentence_and_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write .*last\.pt.*disk full"):
            save_checkpoint(path, {"epoch": 2, "weights": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(path) == {"epoch": 1}
    assert files_below(tmp_path) == ["last.pt"]


def test_a_folder_that_is_a_file_is_said_in_a_sentence(tmp_path):
    (tmp_path / "models").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        save_checkpoint(tmp_path / "models" / "a.pt", {})


def test_leftovers_of_killed_writers_go_but_those_of_live_writers_stay(tmp_path):
    abandoned, live, other = (tmp_path / f".{name}.tmp" for name in ("file.1", "file.2", "other.1"))
    for leftover in (abandoned, live, other):
        leftover.write_text("half")
    long_ago = time.time() - files.LEFTOVER_AGE - 1
    os.utime(abandoned, (long_ago, long_ago))
    os.utime(other, (long_ago, long_ago))
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert files_below(tmp_path) == [".file.2.tmp", ".other.1.tmp", "file"]


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    target, link = tmp_path / "disk" / "file", tmp_path / "link"
    write_atomically(target, lambda file: file.write(b"old"))
    link.symlink_to(target)
    write_atomically(link, lambda file: file.write(b"new"))
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_sha256_is_the_one_of_hashlib(tmp_path):
    (tmp_path / "file").write_bytes(b"attention" * 100_000)
    assert sha256(tmp_path / "file") == hashlib.sha256(b"attention" * 100_000).hexdigest()


# ------------------------------------------------------------------------------------------ checkpoints


def checkpoint_file(path):
    checkpoint = {"model": random_state(depth=1, num_classes=10), "epoch": 3, "best": 0.5, "name": "run"}
    save_checkpoint(path, checkpoint)
    return checkpoint


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path):
    saved = checkpoint_file(tmp_path / "best.pt")
    loaded = load_checkpoint(str(tmp_path / "best.pt"))
    assert same(loaded.pop("model"), saved.pop("model"))
    assert loaded == saved


def loads_unchanged_or_is_refused(path, content, saved):
    """Whether `content` loads and equals `saved`; a refusal has to name the file, a difference fails."""
    path.write_bytes(content)
    try:
        loaded = load_checkpoint(path)
    except UserError as error:
        assert f"{path.name} is damaged" in str(error)
        return False
    assert same(loaded["model"], saved["model"])
    assert loaded["epoch"] == saved["epoch"]
    return True


def flipped(content, bit):
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return damaged


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path):
    path = tmp_path / "best.pt"
    saved = checkpoint_file(path)
    intact, draw = path.read_bytes(), random.Random(0)
    tensor = saved["model"]["blocks.0.mlp.fc1.weight"].numpy().tobytes()
    start = 8 * intact.index(tensor)
    for bit in draw.sample(range(start, start + 8 * len(tensor)), 50):
        assert not loads_unchanged_or_is_refused(path, flipped(intact, bit), saved)
    for bit in draw.sample(range(8 * len(intact)), 150):
        loads_unchanged_or_is_refused(path, flipped(intact, bit), saved)


def test_no_single_bit_of_the_table_of_contents_changes_a_tensor_unseen(tmp_path):
    path, saved = tmp_path / "best.pt", {"model": {"a": torch.randn(5)}, "epoch": 3}
    save_checkpoint(path, saved)
    intact = path.read_bytes()
    table = 8 * intact.index(b"PK\1\2")
    passed = [
        loads_unchanged_or_is_refused(path, flipped(intact, bit), saved)
        for bit in range(table, 8 * len(intact))
    ]
    assert not all(passed)


@pytest.mark.parametrize("keep", [0, 1, 1000, -1000, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path, keep):
    path = tmp_path / "best.pt"
    checkpoint_file(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"best\.pt is damaged .*; use another checkpoint"):
        load_checkpoint(path)


class Marker:
    """Pickled, it is code that makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def save_code(path, marker, kind):
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"model": Marker(marker)}))
    else:
        torch.save({"model": Marker(marker)}, path, _use_new_zipfile_serialization=kind == "zip")


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_pickled_code_is_never_run(tmp_path, offline, kind):
    path, marker = tmp_path / "best.pt", tmp_path / "ran"
    save_code(path, marker, kind)
    with pytest.raises(UserError, match="not a checkpoint of tensors"):
        load_checkpoint(path)
    with pytest.raises(UserError, match="pickled code, which is never run"):
        import_weights(TINY, path, tmp_path)
    assert not marker.exists()
    torch.load(path, weights_only=False) if kind != "pickle" else pickle.loads(path.read_bytes())
    assert marker.exists()  # it would have run


def test_what_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "page.pt").write_text("<html>Not found</html>")
    with pytest.raises(UserError, match=r"page\.pt is damaged or not a checkpoint"):
        load_checkpoint(tmp_path / "page.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(UserError, match=r"list\.pt holds a list, not a dict"):
        load_checkpoint(tmp_path / "list.pt")
    with pytest.raises(UserError, match=r"gone\.pt does not exist; check the path"):
        load_checkpoint(tmp_path / "gone.pt")
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"--from_file .*a\.safetensors"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_a_missing_weights_file_names_the_command_that_fetches_it(tmp_path):
    command = "python3 src/load_pretrained.py --model_name vit_small_patch16_224.dino"
    with pytest.raises(UserError) as caught:
        load_checkpoint(default_weights_path("vit_small_patch16_224.dino", "models"))
    assert str(caught.value).endswith(f"fetch it with: {command}")
    with pytest.raises(UserError) as caught:
        load_checkpoint(default_weights_path("vit_small_patch16_224.dino", tmp_path))
    assert str(caught.value).endswith(f"fetch it with: {command} --save_dir {tmp_path}")


# ------------------------------------------------------------------------------------- published weights


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


def test_the_script_fetches_through_the_hub_with_a_bar_and_survives_a_kill(tmp_path, local_hub):
    Hub.stall.set()
    killed = start_script(tmp_path, local_hub)
    give_up = time.time() + 60
    while not list(tmp_path.rglob("*.incomplete")) and time.time() < give_up:
        time.sleep(0.05)
    killed.kill()
    killed.communicate()
    assert list(tmp_path.rglob("*.incomplete"))  # it was in the middle
    assert not (tmp_path / "models").exists()

    Hub.stall.clear()
    script = start_script(tmp_path, local_hub)
    out, bar = script.communicate(timeout=60)
    assert script.returncode == 0
    assert "saved from timm/test_vit.r160_in1k" in out
    assert "100%" in bar
    assert same(load_checkpoint(tmp_path / "models" / "test_vit.pt"), safetensors.torch.load(Hub.body))


def test_without_a_network_the_script_says_so_in_one_line_and_soon(tmp_path):
    start = time.time()
    script = start_script(tmp_path, "http://127.0.0.1:1")  # refused, which the hub would retry for 46 s
    out, err = script.communicate(timeout=60)
    assert time.time() - start < 30
    assert script.returncode == 1
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: the weights of test_vit could not be downloaded")
    assert err.endswith("python3 src/load_pretrained.py --model_name test_vit --from_file PATH\n")
    assert not (tmp_path / "models").exists()


# ----------------------------------------------------------------------------------------------- import


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


def without(state, *keys):
    return {key: value for key, value in state.items() if key not in keys}


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


# ------------------------------------------------------------------------------------ loading for training


def weights_file(path, state, from_run=False):
    save_checkpoint(path, {"model": state, "epoch": 1} if from_run else state)
    return path


@pytest.mark.parametrize("from_run", [False, True])
@pytest.mark.parametrize("num_classes, head_new", [(1000, False), (10, True), (0, True)])
def test_loading_takes_all_but_a_head_of_another_size(tmp_path, num_classes, head_new, from_run):
    state = random_state()
    path = weights_file(tmp_path / "a.pt", state, from_run)
    model = timm.create_model(TINY, num_classes=num_classes)
    initial = {key: value.clone() for key, value in model.state_dict().items()}
    report = load_into(model, path)
    head = {"head.weight", "head.bias"} if head_new else set()
    assert (report.head_new, report.resampled) == (head_new, ())
    assert report.matched == len(state) - len(head)
    for key, value in model.state_dict().items():
        assert torch.equal(value, initial[key] if key in head else state[key]), key
    assert ("classifier head new" in str(report)) == head_new


def test_a_file_without_head_leaves_the_head_new(tmp_path):
    path = weights_file(tmp_path / "a.pt", without(random_state(), "head.weight", "head.bias"))
    assert load_into(timm.create_model(TINY, num_classes=3), path).head_new


def test_half_a_head_is_not_mixed_with_a_new_half(tmp_path):
    state = random_state(DISTILLED)
    path = weights_file(tmp_path / "a.pt", without(state, "head_dist.weight", "head_dist.bias"))
    model = timm.create_model(DISTILLED)
    initial = {key: value.clone() for key, value in model.state_dict().items()}
    report = load_into(model, path)
    assert report.head_new
    assert report.matched == len(state) - 4
    for name in ("head", "head_dist"):
        assert torch.equal(model.state_dict()[f"{name}.weight"], initial[f"{name}.weight"])


@pytest.mark.parametrize("num_classes", [10, 0])
def test_without_leave_for_a_new_head_another_size_is_refused(tmp_path, num_classes):
    path = weights_file(tmp_path / "a.pt", random_state())
    with pytest.raises(UserError, match=r"does not fit the model: .*head\.weight"):
        load_into(timm.create_model(TINY, num_classes=num_classes), path, new_head=False)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda state: without(state, "blocks.2.attn.qkv.bias"), r"missing \(blocks\.2\.attn\.qkv\.bias\)"),
        (lambda state: state | {"extra": torch.zeros(1)}, r"unexpected \(extra\)"),
        (lambda state: state | {"head_dist.weight": torch.zeros(1)}, r"unexpected \(head_dist\.weight\)"),
        (lambda state: state | {"norm.bias": torch.zeros(3)}, r"norm\.bias \(3,\) instead of \(64,\)"),
        (lambda state: state | {"pos_embed": torch.zeros(1, 8, 64)}, "does not fit the model"),
        (lambda state: random_state("test_vit4"), "missing .* unexpected"),
        (lambda state: {}, "80 of 80 keys missing|78 of 78 keys missing"),
    ],
)
def test_anything_else_is_refused_and_the_model_stays_as_it_was(tmp_path, change, sentence):
    path = weights_file(tmp_path / "a.pt", change(random_state()))
    model = timm.create_model(TINY)
    initial = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError, match=sentence):
        load_into(model, path)
    assert same(model.state_dict(), initial)


@pytest.mark.parametrize("from_run", [False, True])
@pytest.mark.parametrize(
    "kwargs, resampled",
    [
        ({"img_size": 96}, ("pos_embed",)),
        ({"img_size": (96, 224)}, ("pos_embed",)),
        ({"patch_size": 8, "img_size": 80}, ("patch_embed.proj.weight",)),
        ({"patch_size": 8}, ("pos_embed", "patch_embed.proj.weight")),
    ],
)
def test_another_grid_is_resampled_as_timm_does(tmp_path, kwargs, resampled, from_run):
    path = weights_file(tmp_path / "a.pt", random_state(), from_run)
    expected = timm.create_model(TINY, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **kwargs)
    model = timm.create_model(TINY, **kwargs)
    report = load_into(model, path)
    assert set(report.resampled) == set(resampled)
    assert all(f"{key} resampled" in str(report) for key in resampled)
    assert same(model.state_dict(), expected.state_dict())


def test_as_many_patches_in_another_shape_are_resampled_from_published_weights_only(tmp_path):
    state = random_state(img_size=(80, 320))  # 5 x 20 patches, as many as the published 10 x 10
    model = timm.create_model(TINY, img_size=(80, 320))
    assert load_into(model, weights_file(tmp_path / "best.pt", state, from_run=True)).resampled == ()
    assert same(model.state_dict(), state)

    path = weights_file(tmp_path / "test_vit.pt", random_state())
    overlay = {"file": str(path)}
    expected = timm.create_model(TINY, pretrained=True, pretrained_cfg_overlay=overlay, img_size=(80, 320))
    assert load_into(model, path).resampled == ("pos_embed",)
    assert same(model.state_dict(), expected.state_dict())


def test_stock_model_is_timms_and_costs_nothing_on_meta():
    model = stock_model(TINY)
    assert model.state_dict().keys() == timm.create_model(TINY).state_dict().keys()
    assert {
        parameter.device.type for parameter in stock_model("vit_giant_patch14_224", "meta").parameters()
    } == {"meta"}

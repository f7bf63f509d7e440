"""No damaged checkpoint is used, no pickled code runs, and a model takes weights that fit, or none."""

import pickle
import random
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from helpers.weights import TINY, random_state, same, without

from sigmoid_vit.errors import UserError
from sigmoid_vit.model.checkpoints import default_weights_path, load_checkpoint, load_into, save_checkpoint
from sigmoid_vit.model.weights import import_weights

DISTILLED = "deit_tiny_distilled_patch16_224"


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
    assert f"fetch it with: {command}, or train from random weights" in str(caught.value)
    with pytest.raises(UserError) as caught:
        load_checkpoint(default_weights_path("vit_small_patch16_224.dino", tmp_path))
    assert f"fetch it with: {command} --save_dir {tmp_path}, or train" in str(caught.value)


# -------------------------------------------------------------------------------- loading for training


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
        (
            lambda state: state | {"norm.bias": torch.full((64,), torch.nan)},
            r"no finite values for norm\.bias",
        ),
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

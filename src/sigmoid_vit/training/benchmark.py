"""Time and memory of the model beside stock timm and the method as published, in turn in one process."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.layers import Attention
from torch import Tensor, nn

from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_json
from sigmoid_vit.model.edit import EPS, AttentionEdit
from sigmoid_vit.model.families import create_model
from sigmoid_vit.options import check_options, option
from sigmoid_vit.runs.settings import PRESETS, Settings
from sigmoid_vit.training.alignment import HITLLoss
from sigmoid_vit.training.loop import ClassificationLoss

Call = Callable[[Tensor], Tensor]


@dataclass
class BenchmarkOptions:
    """What is timed; `src/benchmark.py` has an option for every field."""

    what: str = option(
        text="inference: a forward pass without gradients; step: forward, backward and SGD update; hitl: "
        "such a step of Step 1 and of Step 2",
        choices=("step", "inference", "hitl"),
    )
    model_name: str = option("vit_small_patch16_224", "timm name")
    img_size: int = option(224, "side of the images in pixels", low=1)
    batch_size: int = option(16, "images of a call", low=1)
    rounds: int = option(9, "timed calls of each variant", low=1)
    bf16: bool = option(False, "autocast to bfloat16")
    compile: bool = option(False, "torch.compile every variant, timm's too")
    out: Path = option(Path("benchmarks"), "folder of the result")

    def __post_init__(self) -> None:
        check_options(self)
        self.out = Path(self.out)


class MaterialisedAttention(Attention):
    """The method as published: every logit through sigmoid, edit and logit again, N x N in every layer."""

    value: Tensor | None = None  # [B, 1, 1, N]
    edited: Tensor | None = None  # bool, same shape

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        B, N, _ = x.shape
        qkv = self.qkv(x).view(B, N, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # [B, H, N, d]
        attention = ((q * self.scale) @ k.mT).float().sigmoid()
        attention = torch.where(self.edited, self.value, attention).clamp(EPS, 1 - EPS)
        attention = attention.logit().softmax(dim=-1).to(v.dtype)
        return self.proj((attention @ v).transpose(1, 2).flatten(2))


def variants(model_name: str, img_size: int, batch_size: int, device: torch.device) -> dict[str, tuple]:
    """name -> (model, forward pass); all models have the same weights, all edits the same cells."""
    torch.manual_seed(0)
    kwargs = dict(num_classes=10, img_size=img_size)
    ours = create_model(model_name, **kwargs).to(device)
    stock = timm.create_model(model_name, **kwargs).to(device)
    materialised = timm.create_model(model_name, attn_layer=MaterialisedAttention, **kwargs).to(device)
    for twin in (stock, materialised):
        twin.load_state_dict(ours.state_dict())

    attention = ours.blocks[0].attn
    extras = (attention.q_norm, attention.k_norm, attention.norm)
    if not ours.has_class_token or attention.gate or any(type(m) is not nn.Identity for m in extras):
        raise UserError(
            f"{model_name} has no class token or more than plain attention; benchmark another model"
        )

    grid = ours.grid((img_size, img_size))
    generator = torch.Generator().manual_seed(0)
    value = torch.rand(batch_size, *grid, generator=generator).to(device)
    edited = (torch.rand(batch_size, *grid, generator=generator) < 0.5).to(device)
    everywhere = AttentionEdit(value, edited, layers="all", queries="all")
    class_row = AttentionEdit(value, edited, layers="last", queries="cls")
    prefix = (ours.num_prefix_tokens, 0)
    for block in materialised.blocks:
        block.attn.value = F.pad(value.flatten(1), prefix)[:, None, None]
        block.attn.edited = F.pad(edited.flatten(1), prefix)[:, None, None]
    return {
        "timm": (stock, stock),
        "unedited": (ours, ours),
        "edit cls, last block": (ours, lambda x: ours(x, edit=class_row)),
        "edit all rows, all layers": (ours, lambda x: ours(x, edit=everywhere)),
        "materialised, all layers": (materialised, materialised),
    }


def hitl_variants(model_name: str, img_size: int, batch_size: int, device: torch.device) -> dict[str, tuple]:
    """name -> (model, images to loss): Step 1, and Step 2 with either preset, every cell edited.

    Half of the updates of the full preset see the whole images as well; both kinds are measured.
    """
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(batch_size, device=device) % 10
    table = {}
    presets = {"Step 1": None, "Step 2, paper": "paper", "Step 2, full": "full"}
    for name, preset in {**presets, "Step 2, full, whole images as well": "full"}.items():
        model = create_model(model_name, num_classes=10, img_size=img_size).to(device)
        if preset is None:
            loss, edits = ClassificationLoss(model), ()
        else:
            settings = Settings(edits="edits.sqlite", hitl=preset, **PRESETS[preset])
            loss = HITLLoss(model, settings, inject=preset == "full")
            loss.sees_whole = name.endswith("whole images as well")
            value = torch.rand(batch_size, *model.grid((img_size, img_size)), generator=generator).to(device)
            edits = (value, torch.ones_like(value, dtype=torch.bool))
        table[name] = model, partial(_mean_loss, loss, labels, edits)
    return table


def _mean_loss(loss: nn.Module, labels: Tensor, edits: tuple[Tensor, ...], images: Tensor) -> Tensor:
    return loss(images, labels, *edits)[0].mean()


def benchmark(o: BenchmarkOptions) -> dict:
    """Run every variant `rounds` times in turn (A B C B C A ...), after a warm-up.

    Returns:
        conditions, and per variant: median, fastest and slowest milliseconds; ratio, the median over the
        rounds of its time over the first one's (timm, Step 1) in the same round; peak_mib, the most memory
        in use above the weights; difference, the largest |class logit - class logit of the variant it should
        equal|.
    """
    what, batch_size, bf16, rounds = o.what, o.batch_size, o.bf16, o.rounds
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    table = (hitl_variants if what == "hitl" else variants)(o.model_name, o.img_size, batch_size, device)
    images = torch.randn(batch_size, 3, o.img_size, o.img_size, device=device)
    labels = torch.arange(batch_size, device=device) % 10
    outputs, calls = {}, {}
    for name, (model, forward) in table.items():
        model.eval()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            outputs[name] = forward(images).float()  # class logits, or with "hitl" the loss
        forward = torch.compile(forward) if o.compile else forward
        calls[name] = _call(what, model.train(what != "inference"), forward, images, labels, bf16)
    milliseconds = _in_turn(calls, rounds, device)
    baseline = milliseconds[next(iter(table))]
    equal_to = {"unedited": "timm", "edit all rows, all layers": "materialised, all layers"}
    rows = {}
    for name, times in milliseconds.items():
        ratios = [a / b for a, b in zip(times, baseline, strict=True)]
        rows[name] = {
            "median_ms": statistics.median(times),
            "min_ms": min(times),
            "max_ms": max(times),
            "ratio": statistics.median(ratios),
            "images_per_s": 1000 * batch_size / statistics.median(times),
            "peak_mib": _peak_mib(calls[name], device),
        }
        if name in equal_to:
            rows[name]["difference"] = (outputs[name] - outputs[equal_to[name]]).abs().max().item()
    return {
        "what": what,
        "model": o.model_name,
        "img_size": o.img_size,
        "batch_size": batch_size,
        "dtype": "bfloat16" if bf16 else "float32",
        "compile": o.compile,
        "rounds": rounds,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
        "variants": rows,
    }


def table_text(result: dict) -> str:
    """The result as lines of a Markdown table."""
    lines = ["| variant | median ms (min - max) | x first | images/s | peak MiB | difference |"]
    lines.append("|---|---|---|---|---|---|")
    for name, row in result["variants"].items():
        difference = f"{row['difference']:.1e}" if "difference" in row else ""
        spread = f"{row['median_ms']:.1f} ({row['min_ms']:.1f} - {row['max_ms']:.1f})"
        lines.append(
            f"| {name} | {spread} | {row['ratio']:.3f} | {row['images_per_s']:.0f} "
            f"| {row['peak_mib']:.0f} | {difference} |"
        )
    return "\n".join(lines)


def write_result(folder: Path, result: dict) -> Path:
    """Write the result as JSON; its name says what was measured and on which device."""
    name = "{what}-{model}-{img_size}-b{batch_size}-{dtype}".format(**result) + "-compile" * result["compile"]
    path = folder / f"{name}-{result['device'].replace(' ', '_')}.json"
    write_json(path, result)
    return path


def _call(
    what: str, model: nn.Module, forward: Call, images: Tensor, labels: Tensor, bf16: bool
) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    precision = dict(device_type=images.device.type, dtype=torch.bfloat16, enabled=bf16)

    def inference() -> None:
        with torch.inference_mode(), torch.autocast(**precision):
            forward(images)

    def step() -> None:
        with torch.autocast(**precision):
            loss = forward(images) if what == "hitl" else F.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return inference if what == "inference" else step


def _in_turn(calls: dict[str, Callable], rounds: int, device: torch.device) -> dict[str, list[float]]:
    times = {name: [] for name in calls}
    names = list(calls)
    for i in range(rounds + 2):  # two rounds of warm-up
        first = i % len(names)  # no variant always runs after the same one
        for name in names[first:] + names[:first]:
            _synchronize(device)
            start = time.perf_counter()
            calls[name]()
            _synchronize(device)
            if i >= 2:
                times[name].append(1000 * (time.perf_counter() - start))
    return times


def _peak_mib(call: Callable[[], None], device: torch.device) -> float:
    """The most memory that one call holds at a time above what was there before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, profile_memory=True, acc_events=True) as profile:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    memory = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    in_use = peak = 0
    for _, change in memory:
        in_use += change
        peak = max(peak, in_use)
    return peak / 2**20


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()

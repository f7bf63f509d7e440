"""Numbers that overflow, and a key that must not be written anywhere."""

import threading
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import torch
from helpers import runs
from helpers.reference import TINY, stock, tiny_model
from torch.nn.functional import cross_entropy

from sigmoid_vit import AttentionEdit
from sigmoid_vit.model import attention

from .harness import Row

CANARY = "0123456789abcdef0123456789abcdef01234567"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Numerics(Row):
    promise = (
        "any edit, in float32, bfloat16 and float16, on attention logits of up to thousands: an output or a "
        "gradient that is not finite; or an unedited output that is not timm's own to the last bit"
    )
    control = "every logit through sigmoid and back"
    tries = (500, 20_000)
    controls = (30, 300)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.model = tiny_model(
            global_pool="avg"
        ).train()  # timm's own computation, without the last rows' cut
        self.twin = stock(self.model, global_pool="avg", **TINY)
        self.qkv = [block.attn.qkv.weight.detach().clone() for block in self.model.blocks]

    def without(self):
        return patch.object(attention, "attend", _there_and_back)

    def attempt(self, number, folder, random, protected):
        dtype, scale = DTYPES[number % 3], 10 ** random.uniform(-2, 2)
        for model in (self.model, self.twin):
            for block, weight in zip(model.blocks, self.qkv, strict=True):
                block.attn.qkv.weight.data.copy_(weight * scale)
        torch.manual_seed(int(random.integers(2**31)))
        images, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
        value = torch.rand(2, 4, 4)
        value[torch.rand(2, 4, 4) < 0.3], value[torch.rand(2, 4, 4) < 0.2] = 0, 1
        edited = torch.rand(2, 4, 4) < random.choice([0, 0.1, 0.5, 1])
        scope = dict(queries=str(random.choice(["cls", "all"])), layers=str(random.choice(["last", "all"])))
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            plain, own = self.twin(images), self.model(images)
            output = self.model(images, edit=AttentionEdit(value, edited, **scope))
            loss = cross_entropy(output.float(), labels)
        case = f"{dtype}, weights x {scale:.3g}, {scope}"
        if not torch.equal(plain.nan_to_num(0.5), own.nan_to_num(0.5)):
            return f"unedited, it is not timm's: {case}"
        if not plain.isfinite().all():  # timm's own overflow: nothing to say of the edit
            return ""
        self.model.zero_grad()
        loss.backward()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        if not (output.isfinite().all() and all(g.isfinite().all() for g in gradients)):
            return f"not finite: {case}"
        return ""


def _there_and_back(request, q, k, v, *_, **__):
    """The method as it reads: logits -> sigmoid -> edit -> logit -> softmax, in the network's precision."""
    shares = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).sigmoid()
    edited, logit = request.edit.over(k.shape[-2])
    rows = slice(0, 1) if request.edit.queries == "cls" else slice(None)
    value = logit.sigmoid().to(shares.dtype).unsqueeze(-2)
    own, shares = shares, shares.clone()
    shares[:, :, rows] = torch.where(edited.unsqueeze(-2), value, own[:, :, rows])
    return shares.logit().softmax(-1).to(v.dtype) @ v


class KeyOfWandb(Row):
    promise = (
        "the key of WANDB_KEY in the output, in a process's command line, or in a file of the run "
        "(config.json, log.jsonl, checkpoints, wandb's own)"
    )
    control = "the key given as a setting"
    tries = (1, 1)
    controls = (1, 1)

    def attempt(self, number, folder, random, protected):
        given = {"WANDB_KEY": CANARY} if protected else {"PROJECTS_NAME": CANARY}
        seen, done = set(), threading.Event()

        def watch():
            while not done.wait(0.05):
                for place in Path("/proc").glob("[0-9]*/cmdline"):
                    with suppress(OSError):
                        if CANARY.encode() in place.read_bytes():
                            seen.add("a command line")

        watcher = threading.Thread(target=watch)
        watcher.start()
        options = dict(WANDB="true", WANDB_MODE="offline", RUNS_NAME="w", EPOCHS="1")
        result = runs.shell(folder, **given, **options)
        done.set()
        watcher.join()
        if result.returncode:
            return f"the training failed: {result.stderr[-300:]}"
        if not list(folder.glob("w/wandb/offline-run-*/*.wandb")):
            return "wandb logged nothing"
        files = [p for p in folder.rglob("*") if p.is_file() and CANARY.encode() in p.read_bytes()]
        seen |= {p.name for p in files} | (
            {"the output"} if CANARY in result.stdout + result.stderr else set()
        )
        return f"it is in {', '.join(sorted(seen))}" if seen else ""

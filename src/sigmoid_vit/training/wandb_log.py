"""Logging to Weights & Biases. Its key stays in the environment (WANDB_API_KEY); nothing here reads it."""

import io
import secrets
import shutil
from pathlib import Path

import torch
from PIL import Image

from sigmoid_vit.data import Prepared
from sigmoid_vit.errors import UserError
from sigmoid_vit.figures.attention_maps import heads_picture
from sigmoid_vit.figures.style import rendered
from sigmoid_vit.runs.network import Network
from sigmoid_vit.runs.settings import Settings

SAMPLES = 4


class WandbLog:
    """A wandb run: the figures of each epoch and the attention of a few sample images."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        import wandb  # slow to import, and only needed when asked for

        self.wandb = wandb
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        id_file = folder / "wandb.id"  # a resumed run goes on in the same wandb run
        run_id = id_file.read_text() if id_file.exists() else secrets.token_hex(4)
        try:
            self.run = wandb.init(
                project=settings.projects_name,
                name=settings.runs_name,
                dir=str(folder),
                config=settings.as_dict(),
                id=run_id,
                resume="allow",
            )
        except wandb.Error as error:
            if new:
                shutil.rmtree(folder)
            raise UserError(
                f"wandb cannot start ({error}); set WANDB_KEY, or WANDB_MODE=offline, or WANDB=false"
            ) from error
        id_file.write_text(run_id)

    def __enter__(self) -> "WandbLog":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.run.finish(exit_code=0 if kind is None else 1)

    def log(self, line: dict, network: Network, part: Prepared) -> None:
        """One epoch's log line, and the sigmoid attention of the first images of `part`."""
        self.run.log({**line, "attention": self.wandb.Image(_samples(network, part))}, step=line["epoch"])


@torch.no_grad()
def _samples(network: Network, part: Prepared) -> Image.Image:
    chosen = torch.linspace(0, len(part) - 1, min(SAMPLES, len(part))).long().tolist()
    training = network.model.training
    network.model.eval()
    picture = heads_picture(network, part, chosen)
    network.model.train(training)
    return Image.open(io.BytesIO(rendered(picture.figure)))

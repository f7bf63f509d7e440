"""Short runs on the embedded digits, in this process or through the shell script."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from sigmoid_vit.model.checkpoints import save_checkpoint
from sigmoid_vit.runs.command_line import SettingsParser
from sigmoid_vit.runs.folder import Run, open_data
from sigmoid_vit.runs.kept_images import KeptImages
from sigmoid_vit.runs.network import Network, build_model
from sigmoid_vit.training.trainer import Trainer

ROOT = Path(__file__).parents[2]
TIMES = ("images_per_s", "seconds")


def settings(folder, *args):
    base = ["--dataset", "digits_decoy", "--result_dir", str(folder), "--runs_name", "run", "--epochs", "2"]
    return SettingsParser("").parse_settings([*base, *args])


def train(folder, *args):
    trainer = Trainer(settings(folder, *args))
    trainer.prepare()
    trainer.fit()
    return Run(Path(folder) / "run")


def untrained_run(folder, *args):
    """A run's folder as training leaves it, with random weights in best.pt."""
    s = settings(folder, *args)
    run, data = Run.open(s), open_data(s)
    run.create(s, KeptImages.of(data.train, data.val, data.all_ids), classes=list(data.classes))
    torch.manual_seed(0)
    save_checkpoint(run.best, {"model": build_model(s, len(data.classes)).state_dict(), "epoch": 0})
    return run


def accuracy(run, split):
    """The share of a test part's images that the run's best network predicts right."""
    network = Network.of_run(run)
    predictions = network.predict(network.prepare(open_data(run.settings()).test(split)))
    return (predictions.probabilities.argmax(1) == predictions.labels).float().mean().item()


def curve(run):
    return [{k: v for k, v in line.items() if k not in TIMES} for line in run.history()]


def shell(folder, **variables):
    """run_vit_training.sh on the embedded data, without any setting that the caller's shell may hold."""
    names = [f.upper() for f in SettingsParser("")._option_string_actions if f.startswith("--")]
    env = {k: v for k, v in os.environ.items() if f"--{k}" not in names and not k.startswith("WANDB")}
    env |= {"DATASET": "digits_decoy", "PATH": f"{Path(sys.executable).parent}:{env['PATH']}", **variables}
    command = ["bash", str(ROOT / "run_vit_training.sh"), "--result_dir", str(folder)]
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=300)

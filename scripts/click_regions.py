"""Measure click to segment against masks: python3 scripts/click_regions.py RUN MASKS PART [PART ...]"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from sigmoid_vit.annotations.sources import open_source
from sigmoid_vit.errors import UserError, run
from sigmoid_vit.evaluation.click_regions import click_regions
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network


def main() -> None:
    if len(sys.argv) < 4:
        raise UserError(__doc__)
    folder, masks, *parts = sys.argv[1:]
    data, network = Run(folder).open_data(None), Network.of_run(Run(folder))
    for part in map(data.part, parts):
        found = click_regions(network, network.prepare(part), open_source("masks", [masks], data, part))
        for kind, figures in found.items():
            print(part.name, f"{kind}:", ", ".join(f"{name} {value:.3g}" for name, value in figures.items()))


if __name__ == "__main__":
    run(main)

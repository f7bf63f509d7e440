"""Compare the decision map with maps of grad-cam and captum, by insertion and deletion (docs/explainers.md).

Needs pip install -e ".[tools]". Prints a table and writes a picture.
"""

import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients, Saliency
from pytorch_grad_cam import GradCAM, HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from sigmoid_vit import AttentionEdit
from sigmoid_vit.annotations.selection import stratified
from sigmoid_vit.errors import run
from sigmoid_vit.evaluation.insertion_deletion import faithfulness
from sigmoid_vit.figures.attention_maps import attention_map, decision_map_axes
from sigmoid_vit.figures.style import save, style
from sigmoid_vit.model.readout import attention_maps
from sigmoid_vit.runs.comparable import open_networks
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network


def explainers(network: Network) -> dict:
    """name -> images [B, 3, H, W] and classes [B] to maps [B, gh, gw], larger for the class."""
    model, grid = network.model, network.grid

    def on_grid(tokens):
        return tokens[:, model.num_prefix_tokens :].unflatten(1, grid).permute(0, 3, 1, 2)

    def cam(kind):
        def explain(images, classes):
            found = kind(model, [model.blocks[-1].norm1], reshape_transform=on_grid)
            maps = found(images, [ClassifierOutputTarget(int(c)) for c in classes])  # [B, H, W]
            return F.adaptive_avg_pool2d(torch.from_numpy(maps)[:, None], grid)[:, 0]

        return explain

    def of_pixels(attribute):
        return lambda images, classes: F.adaptive_avg_pool2d(
            attribute(images, target=classes).sum(1, keepdim=True).abs(), grid
        )[:, 0]

    integrated = IntegratedGradients(model).attribute
    return {
        "Grad-CAM (grad-cam)": cam(GradCAM),
        "HiResCAM (grad-cam)": cam(HiResCAM),
        "saliency (captum)": of_pixels(Saliency(model).attribute),
        "integrated gradients (captum)": of_pixels(
            lambda images, target: integrated(images, target=target, n_steps=16)
        ),
    }


def changed_answers(network: Network, images: torch.Tensor) -> dict[str, float]:
    """name -> share of the answers that change when the strongest cell of the map is erased by an edit."""
    model, (gh, gw) = network.model, network.grid
    classes = model(images).argmax(1)
    maps = {"decision": network.decision_map(images, classes), "random": torch.rand(len(images), gh, gw)}
    plain = attention_maps(model, images)[1]
    maps |= {"rollout": plain.rollout, "sigmoid": plain.sigmoid[:, -1]}
    maps |= {name: explain(images, classes).detach() for name, explain in explainers(network).items()}
    found = {}
    for name, values in maps.items():
        strongest = F.one_hot(values.flatten(1).argmax(1).cpu(), gh * gw).bool().unflatten(1, (gh, gw))
        edit = AttentionEdit(torch.zeros(strongest.shape), strongest)
        found[name] = (model(images, edit=edit).argmax(1) != classes).float().mean().item()
    return found


def picture(network: Network, images: torch.Tensor, shown: torch.Tensor, path: Path) -> None:
    """A row for each image [B, 3, H, W]: itself, uint8 [B, 3, h, w], the decision map, and the others."""
    model = network.model
    classes = model(images).argmax(1)
    maps = {"decision map": network.decision_map(images, classes)}
    maps |= {name: explain(images, classes).detach() for name, explain in explainers(network).items()}
    maps["sigmoid attention,\nlast layer"] = attention_maps(model, images)[1].sigmoid[:, -1]
    with style():
        size = 1.8 * (1 + len(maps)), 2 * len(images)
        figure, axes = plt.subplots(len(images), 1 + len(maps), figsize=size, layout="constrained")
        for row, (image, cls) in enumerate(zip(shown, classes, strict=True)):
            axes[row, 0].imshow(image.permute(1, 2, 0))
            axes[row, 0].set_xlabel(f"predicted: {network.classes[cls]}")
            for column, values in enumerate(maps.values(), 1):
                of_image = values[row]
                if column == 1:
                    decision_map_axes(axes[row, column], of_image)
                else:
                    attention_map(axes[row, column], of_image / of_image.max().clamp_min(1e-12))
        for axis, name in zip(axes[0], ["image", *maps], strict=True):
            axis.set_title(name.replace(" (", "\n("))
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
        save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", nargs="+", required=True, help="folders of runs, one a seed")
    parser.add_argument("--split", default=None, help="train, val or a test part")
    parser.add_argument("--images", type=int, default=50, help="images of each run")
    parser.add_argument("--picture", help="where to write the picture, without its suffix")
    options = parser.parse_args()
    found = {}
    for folder in options.runs:
        _, part, network, _ = open_networks(Run(folder), split=options.split)
        prepared = network.prepare(part)
        chosen = np.sort(stratified(part.labels, min(options.images, len(part)), seed=0))
        curves = faithfulness(network, prepared, chosen, 64, others=explainers(network))
        flips = changed_answers(network, network.inputs(prepared, chosen.tolist()))
        for name, flipped in flips.items():
            areas = [curves[name][f"{kind}_auc"] for kind in ("insertion", "deletion")]
            found.setdefault(name, []).append([*areas, flipped])
    n = f"{len(options.runs)} runs, {curves['n']} images each, {part.name}"
    print(f"| map ({n}) | insertion AUC | deletion AUC | changed answers |", "|---|---|---|---|", sep="\n")
    for name, values in found.items():
        spread = np.std(values, 0, ddof=1) if len(values) > 1 else np.full(3, np.nan)
        print(
            f"| {name} |", *(f"{m:.2f} ± {s:.2f} |" for m, s in zip(np.mean(values, 0), spread, strict=True))
        )
    if options.picture:
        rows = chosen[:: max(1, len(chosen) // 3)][:3].tolist()
        picture(network, network.inputs(prepared, rows), prepared.pixels(rows), Path(options.picture))


if __name__ == "__main__":
    run(main)

"""Is this model timm's model? Load the local weights into both and compare what they make of one batch.

    python3 local_model_test.py                  # models/vit_small_patch16_224.pt
    python3 local_model_test.py --random         # random weights, no file needed

Exit code 0 only if the outputs agree within TOLERANCE times the largest output of timm's model.
"""

import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from sigmoid_vit import create_model  # before torch: it says in one sentence which packages are missing

# isort: split
import torch
from torch import Tensor, nn

from sigmoid_vit.errors import UserError, run
from sigmoid_vit.model.checkpoints import default_weights_path, load_into
from sigmoid_vit.model.weights import stock_model
from sigmoid_vit.options import OptionsParser, check_options, option

TOLERANCE = 1e-5
ROUNDS = 5


@dataclass
class Options:
    model_name: str = option("vit_small_patch16_224", "timm name, with a tag if need be")
    save_dir: str = option("models", "folder of the weights")
    random: bool = option(False, "use random weights instead of a file")
    batch_size: int = option(4, "images compared", low=1)

    def __post_init__(self) -> None:
        check_options(self)


def main() -> None:
    args = OptionsParser(__doc__, Options).parse()
    torch.manual_seed(0)
    models = {"timm": stock_model(args.model_name).eval(), "this model": create_model(args.model_name).eval()}
    if args.random:
        randomise(models["timm"])
        models["this model"].load_state_dict(models["timm"].state_dict())
        print(f"random weights: {len(models['timm'].state_dict())} keys matched")
    else:
        path = default_weights_path(args.model_name, args.save_dir)
        for name, model in models.items():
            print(f"{path} -> {name}: {load_into(model, path, new_head=False)}")
    print(f"parameters: {sum(p.numel() for p in models['this model'].parameters()):,}")

    images = torch.randn(args.batch_size, *models["timm"].pretrained_cfg["input_size"])
    expected, actual = (model_output(model, images) for model in models.values())
    difference, scale = (expected - actual).abs().max().item(), expected.abs().max().item()
    print(f"largest difference of class logits: {difference:.2e} (largest logit {scale:.3g})")
    ratio = time_ratio(models["this model"], models["timm"], images)
    print(f"time: {ratio:.2f} of timm's (batch {args.batch_size}, median of {ROUNDS} alternating runs)")
    if not difference <= TOLERANCE * scale:  # also true for NaN
        raise UserError(f"the models differ by more than {TOLERANCE} x the largest logit")
    print(f"equal within {TOLERANCE} x the largest logit")


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Move every parameter, so that none (layer scale 1e-5, zero biases) hides a difference."""
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.05)


@torch.inference_mode()
def model_output(model: nn.Module, images: Tensor) -> Tensor:
    return model(images)


def time_ratio(model: nn.Module, reference: nn.Module, images: Tensor) -> float:
    """Median time of `model` over that of `reference`, run in turn so that a busy machine slows both."""
    seconds = {model: [], reference: []}
    for _ in range(ROUNDS):
        for each, times in seconds.items():
            start = time.perf_counter()
            model_output(each, images)
            times.append(time.perf_counter() - start)
    return statistics.median(seconds[model]) / statistics.median(seconds[reference])


if __name__ == "__main__":
    run(main)

"""Fetch the published weights of a Vision Transformer, or import a file that is already at hand.

    python3 src/load_pretrained.py --model_name vit_small_patch16_224
    python3 src/load_pretrained.py --model_name vit_small_patch16_224 --from_file weights.npz

Writes <save_dir>/<model_name>.pt and, beside it, <model_name>.json with its origin, sha256 and input format.
"""

from dataclasses import dataclass

from sigmoid_vit.errors import run
from sigmoid_vit.model.weights import download_pretrained, import_weights
from sigmoid_vit.options import OptionsParser, option


@dataclass
class Options:
    model_name: str = option("vit_small_patch16_224", "timm name, with a tag if need be")
    save_dir: str = option("models", "folder of the result")
    from_file: str | None = option(
        None, "import this .pt, .pth, .bin, .safetensors or .npz file", metavar="PATH"
    )
    force: bool = option(False, "replace a file that is already there")


def main() -> None:
    o = OptionsParser(__doc__, Options).parse()
    if o.from_file:
        import_weights(o.model_name, o.from_file, o.save_dir, o.force)
    else:
        download_pretrained(o.model_name, o.save_dir, o.force)


if __name__ == "__main__":
    run(main)

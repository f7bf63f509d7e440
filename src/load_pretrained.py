"""Fetch the published weights of a Vision Transformer, or import a file that is already at hand.

    python3 src/load_pretrained.py --model_name vit_small_patch16_224
    python3 src/load_pretrained.py --model_name vit_small_patch16_224 --from_file weights.npz

Writes <save_dir>/<model_name>.pt and, beside it, <model_name>.json with its origin, sha256 and input format.
"""

import argparse

from sigmoid_vit.errors import run
from sigmoid_vit.weights import download_pretrained, import_weights


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model_name", default="vit_small_patch16_224", help="timm name, with a tag if need be"
    )
    parser.add_argument("--save_dir", default="models", help="folder of the result (default: models)")
    parser.add_argument(
        "--from_file", metavar="PATH", help="import this .pt, .pth, .safetensors or .npz file"
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is already there")
    args = parser.parse_args()
    if args.from_file:
        import_weights(args.model_name, args.from_file, args.save_dir, args.force)
    else:
        download_pretrained(args.model_name, args.save_dir, args.force)


if __name__ == "__main__":
    run(main)

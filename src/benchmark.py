"""Time the model beside stock timm and the published method; writes benchmarks/<what>-<conditions>.json."""

import argparse
from pathlib import Path

from sigmoid_vit.benchmark import benchmark, table_text
from sigmoid_vit.errors import run
from sigmoid_vit.runs import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--what", required=True, choices=("step", "inference"))
    parser.add_argument("--model_name", default="vit_small_patch16_224")
    parser.add_argument("--img_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9, help="timed calls of each variant")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile every variant, timm's too")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the result")
    args = parser.parse_args()
    out = args.__dict__.pop("out")
    result = benchmark(**vars(args))
    name = f"{args.what}-{args.model_name}-{args.img_size}-b{args.batch_size}-{result['dtype']}"
    path = out / f"{name}{'-compile' * args.compile}-{result['device'].replace(' ', '_')}.json"
    write_json(path, result)
    print(table_text(result), f"\n{path}", sep="\n")


if __name__ == "__main__":
    run(main)

"""Time the model beside timm and the published method, or Step 2 beside Step 1; writes benchmarks/*.json."""

from pathlib import Path

from sigmoid_vit.benchmark import benchmark, table_text
from sigmoid_vit.errors import Parser, positive, run
from sigmoid_vit.runs import write_json


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--what", required=True, choices=("step", "inference", "hitl"))
    parser.add_argument("--model_name", default="vit_small_patch16_224")
    parser.add_argument("--img_size", type=positive, default=224)
    parser.add_argument("--batch_size", type=positive, default=16)
    parser.add_argument("--rounds", type=positive, default=9, help="timed calls of each variant")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile every variant, timm's too")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the result")
    args = vars(parser.parse_args())
    out = args.pop("out")
    result = benchmark(**args)
    name = "{what}-{model}-{img_size}-b{batch_size}-{dtype}".format(**result) + "-compile" * result["compile"]
    path = out / f"{name}-{result['device'].replace(' ', '_')}.json"
    write_json(path, result)
    print(table_text(result), f"\n{path}", sep="\n")


if __name__ == "__main__":
    run(main)

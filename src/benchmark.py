"""Time the model beside timm and the published method, or Step 2 beside Step 1; writes benchmarks/*.json."""

from sigmoid_vit.errors import run
from sigmoid_vit.options import OptionsParser
from sigmoid_vit.training.benchmark import BenchmarkOptions, benchmark, table_text, write_result


def main() -> None:
    options = OptionsParser(__doc__, BenchmarkOptions).parse()
    result = benchmark(options)
    print(table_text(result), f"\n{write_result(options.out, result)}", sep="\n")


if __name__ == "__main__":
    run(main)

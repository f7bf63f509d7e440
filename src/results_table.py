"""One table of figures that evaluate.py wrote: a row per kind of run, mean and sd over its seeds."""

from sigmoid_vit.errors import Parser, run
from sigmoid_vit.tables import evaluated, pairs, write_table


def main() -> None:
    parser = Parser(__doc__)
    row = "NAME=RUN, or a quoted pattern for several seeds: full='result/full_s*'"
    parser.add_argument("--rows", nargs="+", required=True, metavar="NAME=RUN", help=row)
    metric = "NAME=SPLIT:KEY of metrics.json, the key with dots: decoy_test=test:top1"
    parser.add_argument("--metrics", nargs="+", required=True, metavar="NAME=SPLIT:KEY", help=metric)
    parser.add_argument("--out", required=True, help="writes OUT.json (means), OUT.csv (every run), OUT.md")
    args = parser.parse_args()
    metrics = pairs(args.metrics, "--metrics")
    rows = {name: evaluated(runs, metrics) for name, runs in pairs(args.rows, "--rows").items()}
    print(write_table(args.out, rows))


if __name__ == "__main__":
    run(main)

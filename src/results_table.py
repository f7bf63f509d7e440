"""One table of figures that evaluate.py wrote: a row per kind of run, mean and sd over its seeds."""

from dataclasses import dataclass

from sigmoid_vit.errors import run
from sigmoid_vit.options import OptionsParser, option
from sigmoid_vit.runs.tables import evaluated, pairs, write_table


@dataclass
class Options:
    rows: list[str] = option(
        text="NAME=RUN, or a quoted pattern for several seeds: full='result/full_s*'",
        nargs="+",
        metavar="NAME=RUN",
    )
    metrics: list[str] = option(
        text="NAME=SPLIT:KEY of metrics.json, the key with dots: decoy_test=test:top1",
        nargs="+",
        metavar="NAME=SPLIT:KEY",
    )
    out: str = option(text="writes OUT.json (means), OUT.csv (every run), OUT.md")
    against: str | None = option(
        None,
        "a row: the others' difference to it, runs of one seed paired, with 95 % intervals",
        metavar="NAME",
    )


def main() -> None:
    o = OptionsParser(__doc__, Options).parse()
    metrics = pairs(o.metrics, "--metrics")
    rows = {name: evaluated(runs, metrics) for name, runs in pairs(o.rows, "--rows").items()}
    print(write_table(o.out, rows, o.against))


if __name__ == "__main__":
    run(main)

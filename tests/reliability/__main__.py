"""Try every promise of docs/reliability.md and print the table; with --release, many more times."""

import argparse
import os
import sys
import tempfile
import time
import traceback
from multiprocessing.connection import wait
from pathlib import Path

import torch

from .damage_rows import Archives, DamagedFiles, OddImages
from .data_rows import ChangedData
from .disk_rows import FullDisk
from .harness import FORK, Result, Row, Unavailable, count
from .other_rows import KeyOfWandb, Numerics
from .store_rows import CopiedInUse, EditorKilled
from .training_rows import (
    KilledAnywhere,
    KilledWhileSaving,
    OneOfTwoProcesses,
    ResumeAtEveryUpdate,
    TwoTrainers,
)

ROWS: list[type[Row]] = [
    EditorKilled,
    ResumeAtEveryUpdate,
    KilledAnywhere,
    KilledWhileSaving,
    DamagedFiles,
    ChangedData,
    OneOfTwoProcesses,
    TwoTrainers,
    FullDisk,
    OddImages,
    Archives,
    Numerics,
    KeyOfWandb,
    CopiedInUse,
]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.reliability", description=__doc__)
    parser.add_argument("--release", action="store_true", help="the large counts")
    parser.add_argument("--only", type=int, nargs="+", metavar="ROW", help="these rows of the table")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="rows at a time (default: one a core)"
    )
    options = parser.parse_args()
    start, numbers = time.monotonic(), options.only or range(1, len(ROWS) + 1)
    with tempfile.TemporaryDirectory() as folder:
        results = _side_by_side(list(numbers), options.release, options.jobs, Path(folder))
    print(_table(results), f"\n{time.monotonic() - start:.0f} s, {options.jobs} rows at a time", flush=True)
    sys.exit(any(not result.passed for result in results.values()))


def _side_by_side(numbers: list[int], release: bool, jobs: int, folder: Path) -> dict[int, Result]:
    """Each row in a process of its own, the long ones first."""
    waiting, running, results = sorted(numbers, key=_long_first), {}, {}
    while waiting or running:
        while waiting and len(running) < jobs:
            number = waiting.pop(0)
            ours, theirs = FORK.Pipe(duplex=False)
            process = FORK.Process(target=_one_row, args=(number, release, folder, theirs))
            process.start()
            theirs.close()
            running[ours] = number, process
        for pipe in wait(running):
            number, process = running.pop(pipe)
            try:
                results[number] = pipe.recv()
            except EOFError:
                results[number] = Result()
                results[number].protected.first = f"the harness itself failed, see {folder}"
            process.join()
            told = results[number].protected
            print(
                f"row {number}: {told.failed} of {told.tries} failed {told.first}",
                file=sys.stderr,
                flush=True,
            )
    return dict(sorted(results.items()))


def _long_first(number: int) -> int:
    long = (7, 3, 2, 1, 6)
    return long.index(number) if number in long else len(long)


def _one_row(number: int, release: bool, folder: Path, pipe) -> None:
    """Try a row and its control; what they print goes into a file."""
    torch.set_num_threads(1)
    errors = os.dup(2)
    with open(folder / f"{number}.log", "wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    result, place, row = Result(), folder / str(number), ROWS[number - 1]
    place.mkdir()
    try:
        made = row(place)
        result.protected = count(made, row.tries[release], True)
        result.control = count(made, row.controls[release], False)
    except Unavailable as why:
        result.protected.unavailable = str(why)
    except BaseException:
        os.write(errors, traceback.format_exc().encode())
        raise
    pipe.send(result)


def _table(results: dict[int, Result]) -> str:
    lines = [
        "| # | what must not happen | tries | happened | control: without the protection | happened | s |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for number, result in results.items():
        row, told, control = ROWS[number - 1], result.protected, result.control
        tried = (
            f"{told.tries} | {told.failed}" if not told.unavailable else f"not tried: {told.unavailable} | "
        )
        seconds = told.seconds + control.seconds
        happened = f"{control.failed} of {control.tries}"
        lines.append(f"| {number} | {row.promise} | {tried} | {row.control} | {happened} | {seconds:.0f} |")
        if told.failed:
            lines.append(f"  FAILED: {told.first}")
        if not result.passed and not told.failed:
            lines.append(f"  FAILED: {told.first or 'the control did not fail, so the row shows nothing'}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Write one HTML page about a run for the person who decides: errors, edits, changes, what to look at."""

from sigmoid_vit.errors import run
from sigmoid_vit.options import OptionsParser
from sigmoid_vit.report.build import ReportOptions, write_report


def main() -> None:
    print(write_report(OptionsParser(__doc__, ReportOptions).parse()))


if __name__ == "__main__":
    run(main)

"""The page itself: content, texts of one language and the template become one file."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jinja2

from sigmoid_vit.files import write_atomically
from sigmoid_vit.options import check_options, option
from sigmoid_vit.report import content
from sigmoid_vit.runs.comparable import open_networks
from sigmoid_vit.runs.folder import Run

PAGE = Path(__file__).parent / "page"
LANGUAGES = ("en", "ja")  # in the order of the texts


@dataclass(kw_only=True)
class ReportOptions:
    """What is reported; `src/report.py` has an option for every field."""

    run: str = option(text="the run's folder, result/<RUNS_NAME>")
    against: str | None = option(None, "the run before: what changed since", metavar="RUN")
    language: str = option("en", "of the page", LANGUAGES)
    split: str | None = option(
        None, "train, val or a test part (default: test, or val where there is no test)"
    )
    out: str | None = option(
        None, "file to write (default: report_<language>.html in the run's folder)", metavar="FILE"
    )
    images: int = option(6, "how many errors, fixed, broken and unsure images to show, of each", low=0)
    decision_maps: int = option(50, "images for the mean decision maps", low=1)
    dataset_path: str | None = option(None, "where the data set is now, if it was moved")

    def __post_init__(self) -> None:
        check_options(self)


def write_report(options: ReportOptions) -> Path:
    """Write the report on a run: one HTML file with all its pictures inside, which is returned.

    Raises:
        UserError: there is no such run, data set or part, or the two runs cannot be compared.
    """
    o, run = options, Run(options.run)
    before = Run(o.against) if o.against else None
    data, part, network, former = open_networks(run, before, o.split, dataset_path=o.dataset_path)
    after = network.predict(network.prepare(part))
    earlier = former.predict(former.prepare(part)) if former else None
    facts = run.facts()
    page = render(
        o.language,
        name=network.name,
        run=run.folder,
        against=before and before.folder,
        summary=content.summary(after),
        errors=content.errors(after, o.images),
        decided=content.decided(after, o.decision_maps),
        edits=content.edits(after, data.train),
        change=content.change(earlier, after, o.images) if earlier else None,
        next=content.look_at_next(after, o.images),
        facts=facts,
    )
    out = Path(o.out) if o.out else run.folder / f"report_{o.language}.html"
    write_atomically(out, lambda file: file.write(page.encode()))
    return out


def render(language: str, **values: object) -> str:
    """The page in a language, with the values that the template asks for; a missing one is an error."""
    loader = jinja2.FileSystemLoader(PAGE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda share, digits=1: f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"
    environment.filters["points"] = lambda share: f"{100 * share:+.1f}"
    style = (PAGE / "style.css").read_text("utf-8")
    template = environment.get_template("report.html")
    return template.render(t=texts(language), language=language, style=style, **values)


def texts(language: str) -> Callable[..., str]:
    """A text of the page by its key, with values put into its braces."""
    known = json.loads((PAGE / "texts.json").read_text("utf-8"))
    return partial(_text, known, LANGUAGES.index(language))


def _text(known: dict[str, list[str]], at: int, key: str, **values: object) -> str:
    return known[key][at].format(**values)

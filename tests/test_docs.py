"""The pages say what is there: links, files, options and settings exist, and the two READMEs agree."""

import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

from sigmoid_vit.options import OptionsParser
from sigmoid_vit.runs.settings import Settings

ROOT = Path(__file__).parents[1]
README, JAPANESE = ROOT / "README.md", ROOT / "README.ja.md"
PAGES = [README, JAPANESE, *sorted((ROOT / "docs").glob("*.md"))]
SCRIPT = re.compile(r"(?:src/\w+|scripts/(?:settings|models)_page|local_model_test)\.py|\brun_\w+\.sh")
OPTION = re.compile(r"(?<![\w-])--([a-z]\w+)")
NAME = re.compile(r"(?<![\w${])([A-Z][A-Z_]+)=")
OF_SHELL = {"BROWSER", "SEEDS", "WANDB_KEY", "WANDB_MODE", "IS_DATAPARALLEL", "LAUNCH_ARGS", "OPTIONS", "S"}
ELSEWHERE = re.compile(r'LAUNCH_ARGS="[^"]*"')  # options of accelerate


class Parsed(Exception):
    """In the place of parsing: the parser is complete."""


@cache
def options(script):
    """The options of a script, without their dashes."""
    spec = importlib.util.spec_from_file_location(f"script_{Path(script).stem}", ROOT / script)
    module, found = importlib.util.module_from_spec(spec), {}

    def given(parser, args=None):
        found.update(parser._option_string_actions)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OptionsParser, "given", given)
        spec.loader.exec_module(module)
        with pytest.raises(Parsed):
            module.main()
    return {name.removeprefix("--") for name in found}


def read(page):
    return page.read_text(encoding="utf-8")


def blocks(page):
    """The code blocks of a page: language and text."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL)


def commands(page):
    """The lines of the shell blocks; what `\\` continues is one line."""
    for language, text in blocks(page):
        if language == "bash":
            yield from re.sub(r"\\\n\s*", "", text).splitlines()


def code(text):
    """A code block without comments and trailing spaces."""
    return [re.sub(r"(^|\s+)#.*$", "", line).rstrip() for line in text.splitlines()]


def headings(page):
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^(#+) (.+)$", text, re.MULTILINE)


def anchors(page):
    """What GitHub calls the headings in links."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for _, title in headings(page)}


@pytest.mark.parametrize("page", [README, JAPANESE], ids=lambda page: page.name)
def test_readme_is_short(page):
    assert len(read(page).splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_scripts_exist(page):
    for script in SCRIPT.findall(read(page)):
        assert (ROOT / script).is_file(), f"{page.name}: {script}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_in_commands_are_options_of_their_script(page):
    for line in commands(page):
        script = next(iter(SCRIPT.findall(line)), "run_vit_training.sh" if "OPTIONS=" in line else "")
        given = set(OPTION.findall(ELSEWHERE.sub("", re.sub(r"#.*", "", line))))
        if script and script != "run_tests.sh" and given:
            known = options("src/train.py" if script.endswith(".sh") else script)
            assert given <= known, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_in_commands_exist(page):
    known = {name.upper() for name in Settings.__dataclass_fields__} | OF_SHELL
    for line in commands(page):
        assert set(NAME.findall(line)) <= known, f"{page.name}: {line}"


@pytest.mark.parametrize("name", ["settings_page", "models_page"])
def test_a_written_page_is_what_the_code_says(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert read(module.PAGE) == module.page(), f"run: python3 scripts/{name}.py"


def test_table_of_contents_names_every_page():
    contents = read(ROOT / "docs/README.md")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in contents, page.name


def test_japanese_readme_has_the_same_headings():
    assert [level for level, _ in headings(JAPANESE)] == [level for level, _ in headings(README)]


def test_japanese_readme_has_the_same_code():
    """But for comments; drawings, in blocks called text, have words of their own."""
    for (language, ours), (other, theirs) in zip(blocks(README), blocks(JAPANESE), strict=True):
        assert other == language
        assert language == "text" or code(theirs) == code(ours)


def test_model_snippet_runs(capsys):
    snippet = next(text for language, text in blocks(README) if language == "python")
    exec(snippet.replace("vit_small", "vit_tiny"), {})
    assert "[2, 3, 1, 197]" in capsys.readouterr().out

"""A script that is run with the wrong Python says in one sentence what to do instead."""

import shutil
import signal
import subprocess
import sys
import time
from importlib.machinery import PathFinder
from pathlib import Path
from subprocess import PIPE

import pytest
from helpers.runs import ROOT

import sigmoid_vit
from sigmoid_vit import environment

SCRIPTS = [*sorted((ROOT / "src").glob("*.py")), ROOT / "local_model_test.py"]
BARE = [sys.executable, "-S", "-E"]  # this Python without its installed packages


def run(*command, folder):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=folder, timeout=60)


def refusal(result):
    """The one sentence with which a script ended."""
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: ")
    return result.stderr


def test_every_script_is_tried():
    assert {"train", "evaluate", "edit_attention", "local_model_test"} <= {path.stem for path in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_without_its_packages_a_script_ends_in_one_sentence(tmp_path, script):
    sentence = refusal(run(*BARE, script, "--help", folder=tmp_path))
    assert f"{sys.executable} lacks torch, torchvision, timm" in sentence
    assert f"; in {ROOT}: " in sentence


def bare_copy(folder):
    """The package and one script in another folder, as after a clone."""
    shutil.copytree(
        ROOT / "src/sigmoid_vit", folder / "src/sigmoid_vit", ignore=shutil.ignore_patterns("__pycache__")
    )
    return Path(shutil.copy(ROOT / "src/train.py", folder / "src"))


def test_the_sentence_names_the_environment_where_there_is_one(tmp_path):
    script = bare_copy(tmp_path)
    assert "pip install -r requirements.txt" in refusal(run(*BARE, script, folder=tmp_path))
    (tmp_path / ".venv").mkdir()  # half made
    assert "pip install -r requirements.txt" in refusal(run(*BARE, script, folder=tmp_path))
    (tmp_path / ".venv/requirements.installed").touch()
    assert refusal(run(*BARE, script, folder=tmp_path)).endswith(
        f"in {tmp_path}: source .venv/bin/activate\n"
    )


def test_another_program_gets_an_import_error(tmp_path):
    bare_copy(tmp_path)
    other = tmp_path / "other.py"
    other.write_text(f"import sys; sys.path.insert(0, {str(tmp_path / 'src')!r}); import sigmoid_vit")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    result = run(*BARE, shutil.move(other, elsewhere), folder=tmp_path)
    assert result.returncode == 1
    assert "ImportError: " in result.stderr
    assert "lacks torch" in result.stderr


@pytest.mark.parametrize("seconds", [1, 2])
def test_ctrl_c_while_python_imports_is_one_word(seconds):
    script = subprocess.Popen(
        [sys.executable, ROOT / "src/train.py", "--help"], stderr=PIPE, stdout=PIPE, text=True
    )
    time.sleep(seconds)
    script.send_signal(signal.SIGINT)
    _, told = script.communicate(timeout=60)
    assert "Traceback" not in told
    assert told in ("interrupted\n", "")  # "" where it was over by then


def test_an_older_python_is_named(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9))
    monkeypatch.setattr(sys, "argv", [str(ROOT / "src/train.py")])
    with pytest.raises(SystemExit, match=r"^error: .* is older than Python 3\.11; in "):
        environment.require_packages()


def test_where_nothing_is_missing_nothing_is_said(capsys):
    environment.require_packages()
    assert capsys.readouterr() == ("", "")
    assert Path(sigmoid_vit.__file__).is_relative_to(ROOT / "src")


def test_no_script_hides_a_package():
    """A script's folder comes first on the path: src/tqdm.py would be imported in place of tqdm."""
    elsewhere = [folder for folder in sys.path if Path(folder).resolve() != ROOT / "src"]
    for script in (ROOT / "src").glob("*.py"):
        found = PathFinder.find_spec(script.stem, elsewhere)
        # a plain folder, such as tests/report, has no loader and comes after all modules
        assert found is None or found.loader is None, f"{script.name} hides a package"

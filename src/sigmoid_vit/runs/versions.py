"""With which code and packages a run was made."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy")


def code_and_versions() -> dict:
    """The "commit" of the code and the "versions" of Python and the packages in use."""
    packages = {name: version(name) for name in PACKAGES}
    return {"commit": _commit(), "versions": {"python": platform.python_version(), **packages}}


def differences(before: dict) -> list[str]:
    """Where what is in use differs from an earlier `code_and_versions`, in words."""
    now, versions = code_and_versions(), before.get("versions", {})
    changed = {name: (old, now["versions"].get(name, old)) for name, old in versions.items()}
    changed["commit"] = before.get("commit"), now["commit"]
    return [f"{name} {old}, now {new}" for name, (old, new) in changed.items() if old != new]


def _commit() -> str | None:
    """The commit of the code, with "+changes" when the working tree differs; None outside git."""
    here = Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(
            ("git", *args), cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", "..") else "")
    except (OSError, subprocess.CalledProcessError):
        return None

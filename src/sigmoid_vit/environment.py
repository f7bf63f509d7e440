"""Whether this Python has what the project needs; it runs on any Python 3, so that it can say so."""

import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (3, 11)
PACKAGES = (
    "torch torchvision timm accelerate huggingface_hub safetensors numpy scipy sklearn torchmetrics PIL tqdm "
    "matplotlib matplotlib_fontja starlette uvicorn"
)


def is_own_script():
    """Whether a script of the repository is being run, and not another program."""
    return Path(sys.argv[0]).resolve().parent in (ROOT, ROOT / "src")


def quiet_interrupt():
    """Let Ctrl-C end a script of the repository without a traceback, also in the seconds of its imports."""
    told = sys.excepthook
    if is_own_script():
        sys.excepthook = lambda kind, *rest: (
            print("interrupted", file=sys.stderr) if kind is KeyboardInterrupt else told(kind, *rest)
        )


def require_packages():
    """Where packages are missing, end a script of the repository with one sentence; else ImportError."""
    missing = [name for name in PACKAGES.split() if find_spec(name) is None]
    is_old = sys.version_info < NEEDED
    if not (missing or is_old):
        return
    lack = f"is older than Python {NEEDED[0]}.{NEEDED[1]}" if is_old else f"lacks {', '.join(missing)}"
    remedy = "pip install -r requirements.txt, or let bash run_demo.sh prepare .venv and activate that"
    if (ROOT / ".venv/requirements.installed").exists():
        remedy = "source .venv/bin/activate"
    sentence = f"{sys.executable} {lack}; in {ROOT}: {remedy}"
    if is_own_script():
        sys.exit("error: " + sentence)
    raise ImportError(sentence)

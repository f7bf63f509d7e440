"""Whether this Python has what the project needs; it runs on any Python 3, so that it can say so."""

import signal
import sys
from importlib.util import find_spec
from multiprocessing import parent_process
from pathlib import Path
from threading import current_thread, main_thread

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (3, 11)
PACKAGES = (
    "torch torchvision timm accelerate huggingface_hub safetensors numpy scipy sklearn torchmetrics PIL tqdm "
    "pycocotools yaml matplotlib matplotlib_fontja starlette uvicorn"
)


def is_own_script():
    """Whether a script of the repository is being run, and not another program."""
    return Path(sys.argv[0]).resolve().parent in (ROOT, ROOT / "src")


def quiet_interrupt():
    """Let Ctrl-C end a script of the repository at once, without a traceback, until its `main` runs.

    As an exception it would come up in the imports of other packages, some of which lose it.
    """
    if is_own_script() and parent_process() is None and current_thread() is main_thread():
        signal.signal(signal.SIGINT, end_at_once)


def end_at_once(number, _):
    print("interrupted", file=sys.stderr, flush=True)
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


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

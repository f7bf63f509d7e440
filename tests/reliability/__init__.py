"""What is promised of runs, stores and files, broken on purpose: `python3 -m tests.reliability`."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

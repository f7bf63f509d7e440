"""Small networks gain nothing from threads, and processes with threads of their own slow each other."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; for the processes that tests start, too

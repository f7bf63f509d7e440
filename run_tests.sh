#!/usr/bin/env bash
# Prepares .venv, then checks style (ruff) and runs every test. Arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/scripts/setup_env.sh"

ruff check .
ruff format --check .
python -m pytest "$@"

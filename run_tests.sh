#!/usr/bin/env bash
# Prepares .venv, then checks style (ruff; for the editor's page oxlint and oxfmt) and runs every test, one process a core.
# Arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/scripts/setup_env.sh"

ruff check .
ruff format --check .
oxlint src
oxfmt --check 'src/**/*.js'
python -m pytest --numprocesses auto --dist worksteal "$@"

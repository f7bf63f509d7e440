#!/usr/bin/env bash
# Prepares .venv, then checks style (ruff; for the editor's page oxlint and oxfmt), runs every test but the slowest, one
# process a core, and tries promises of docs/reliability.md (all but the slowest, 2, 7 and 13). Arguments go to pytest in
# place of this choice (-m slow: the slowest alone); with some, the promises are left out.
set -euo pipefail
source "$(dirname "$0")/scripts/setup_env.sh"

ruff check .
ruff format --check .
oxlint src
oxfmt --check 'src/**/*.js'
if [ $# -gt 0 ]; then
    exec python -m pytest --numprocesses auto --dist worksteal "$@"
fi
python -m pytest --numprocesses auto --dist worksteal -m "not slow"
python -m tests.reliability --only 1 3 4 5 6 8 9 10 11 12 14

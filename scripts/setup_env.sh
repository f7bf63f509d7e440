# Sourced by run_demo.sh and run_tests.sh: prepares .venv from requirements.txt and puts it on the PATH.
# It is made once and made again only when requirements.txt changes. PYTHON chooses the interpreter.
# For run_tests.sh it also installs Debian's chromium and firefox-esr, where they lack and no password is needed.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python 3.11 or newer was found; install one, or name it: PYTHON=/path/to/python3 bash $0" >&2
    return 1
}

prepare_env() {
    local done=.venv/requirements.installed python
    if cmp -s requirements.txt "$done"; then
        echo "Using .venv (requirements.txt is unchanged)."
    else
        python=$(find_python) || return 1
        echo "Setting up .venv with $("$python" --version): a few minutes and about 6 GB, once."
        rm -f "$done"
        "$python" -m venv .venv || {
            echo "error: Python cannot make a virtual environment; install its venv module (Debian: python3-venv)" >&2
            return 1
        }
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt || {
            echo "error: the packages in requirements.txt could not be installed; check the network and run again" >&2
            return 1
        }
        cp requirements.txt "$done"
    fi
    export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
}

has_any() { # one of these programs
    local program
    for program; do
        command -v "$program" >/dev/null && return
    done
    return 1
}

prepare_browsers() {
    local missing=() root=()
    has_any chromium chromium-browser google-chrome google-chrome-stable || missing+=(chromium)
    has_any firefox-esr firefox || missing+=(firefox-esr)
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || root=(sudo -n)
    if command -v apt-get >/dev/null && "${root[@]}" true 2>/dev/null; then
        echo "Installing ${missing[*]}, in which the editor's page is tested."
        "${root[@]}" apt-get update >/dev/null 2>&1 || true # an old list may do
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 && return
    fi
    echo "Without ${missing[*]}, tests of the editor's page are skipped (Debian: apt-get install ${missing[*]})."
}

prepare_env || exit 1
if [ "$(basename "$0")" = run_tests.sh ]; then
    prepare_browsers
fi

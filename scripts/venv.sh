#!/bin/sh
# Make or refresh .venv:  scripts/venv.sh run    what the library needs to run
#                         scripts/venv.sh dev    and what its tests and checks need
#                         scripts/venv.sh apps   and the frameworks whose applications are tested
#                         scripts/venv.sh docs   what it needs to run, and what builds its documentation
#
# Which Python: the one that PYTHON names (make test PYTHON=python3.13), else the oldest on PATH that the library supports,
# because what runs there is what is promised. A .venv that is there already is kept, unless PYTHON names another version.
# Nothing is installed outside .venv. A stamp in it says what was installed from which files, so that a second run is quick.
set -eu
cd "$(dirname "$0")/.."
want=${1:-dev}
oldest="3.11"

usable() { "$1" -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; }

version_of() { "$1" -c "import sys; print(*sys.version_info[:2])" 2>/dev/null; }

if [ -n "${PYTHON:-}" ]; then
    if ! usable "$PYTHON"; then
        echo "PYTHON=$PYTHON is no working Python $oldest or newer." >&2
        exit 1
    fi
    if [ -e .venv ] && [ "$(version_of .venv/bin/python)" != "$(version_of "$PYTHON")" ]; then
        echo "· .venv has another version than $PYTHON: making it anew"
        rm -rf .venv
    fi
fi

if [ -e .venv ] && ! usable .venv/bin/python; then
    echo "· .venv holds no working Python $oldest or newer: making it anew"
    rm -rf .venv
fi

if [ ! -e .venv ]; then
    found=""
    for python in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3 python}; do
        if usable "$python"; then found=$python; break; fi
    done
    if [ -z "$found" ]; then
        echo "Python $oldest or newer is needed, and none was found on PATH." >&2
        for python in python3 python; do
            version=$("$python" --version 2>/dev/null) && echo "  ($python is $version)" >&2
        done
        echo "Install it (Debian, Ubuntu: apt install python3 python3-venv) and run make again." >&2
        exit 1
    fi
    if ! "$found" -c "import venv, ensurepip" >/dev/null 2>&1; then
        echo "$found has no venv module. Debian and Ubuntu keep it apart: apt install python3-venv" >&2
        exit 1
    fi
    echo "· making .venv with $("$found" --version)"
    "$found" -m venv .venv
fi

sum=$(cat pyproject.toml constraints.txt scripts/venv.sh | cksum | tr ' ' -)
stamp=".venv/.installed-$want"
# What `dev` installs includes what `run` installs, and `apps` includes both.
case $want in
    run) enough="$stamp .venv/.installed-dev .venv/.installed-apps" ;;
    dev) enough="$stamp .venv/.installed-apps" ;;
    *) enough="$stamp" ;;
esac
for have in $enough; do
    if [ -f "$have" ] && [ "$(cat "$have")" = "$sum" ]; then exit 0; fi
done

rm -f "$stamp"
case $want in
    run) extra="" what="run" ;;
    apps) extra="[dev,apps]" what="develop, and to run applications in their frameworks" ;;
    docs) extra="[docs]" what="build the documentation" ;;
    *) extra="[dev]" what="develop" ;;
esac
echo "· installing what it takes to $what into .venv (about a minute, once)"

# pip is silent for long: every five seconds a line says what it is doing. Its log stays in .venv, should it fail.
log=.venv/install.log
: > "$log"
{
    seconds=0
    while sleep 5 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
        seconds=$((seconds + 5))
        doing=$(sed -n -E -e 's/^.* ((Collecting|Downloading) [^ ]*).*/\1/p' \
            -e 's/^.* (Installing collected packages).*/\1/p' "$log" | tail -n 1)
        echo "  $seconds s  ${doing:-starting pip}"
    done
} &
ticking=$!
trap 'kill "$ticking" 2>/dev/null || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export PIP_DISABLE_PIP_VERSION_CHECK=1
# A checkout that was installed before the distribution had its present name is installed once, not twice.
if .venv/bin/python -m pip show --quiet llm-dispatcher >/dev/null 2>&1; then
    .venv/bin/python -m pip uninstall --quiet --yes llm-dispatcher
fi
.venv/bin/python -m pip install --quiet --no-input --progress-bar off --log "$log" \
    -c constraints.txt -e ".$extra"
echo "$sum" > "$stamp"

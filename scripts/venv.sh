#!/bin/sh
# Make or refresh .venv:  scripts/venv.sh run    what the library needs to run
#                         scripts/venv.sh dev    and what its tests and checks need
#                         scripts/venv.sh docs   what it needs to run, and what builds its documentation
# Nothing is installed outside .venv. A stamp in it says what was installed from which files, so that a second run is quick.
set -eu
cd "$(dirname "$0")/.."
want=${1:-dev}
oldest="3.11"

usable() { "$1" -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; }

if [ -e .venv ] && ! usable .venv/bin/python; then
    echo "· .venv holds no working Python $oldest or newer: making it anew"
    rm -rf .venv
fi

if [ ! -e .venv ]; then
    found=""
    for python in python3.14 python3.13 python3.12 python3.11 python3 python; do
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
# What the others need includes what running needs.
also="$stamp"
[ "$want" = run ] && also=.venv/.installed-dev
for have in "$stamp" "$also"; do
    if [ -f "$have" ] && [ "$(cat "$have")" = "$sum" ]; then exit 0; fi
done

rm -f "$stamp"
case $want in
    run) extra="" what="run" ;;
    docs) extra="[docs]" what="build the documentation" ;;
    *) extra="[dev]" what="develop" ;;
esac
echo "· installing what it takes to $what into .venv (a minute or two, once)"
PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install --quiet --no-input -c constraints.txt -e ".$extra"
echo "$sum" > "$stamp"

#!/bin/sh
# Makes the judge's Python environment in target/judge-venv and prints the path of its Python.
# Does nothing if it is there already and the requirements are the same.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${JUDGE_VENV:-$here/../../target/judge-venv}
python=${PYTHON:-python3}

command -v "$python" >/dev/null || { echo "judge: $python is not installed (Debian: apt install python3)" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "judge: $("$python" -V) is too old, 3.11 or newer is needed (set PYTHON=)" >&2; exit 1; }
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    { echo "judge: $python has no venv with pip (Debian: apt install python3-venv)" >&2; exit 1; }

if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
        -r "$here/requirements.txt" >&2
    cp "$here/requirements.txt" "$venv/requirements.txt"  # last: an interrupted run starts over
fi
echo "$(cd "$venv" && pwd)/bin/python"

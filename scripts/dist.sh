#!/usr/bin/env bash
# Make dist/: what a cluster needs. Called by `make dist` with the python to use.
set -euo pipefail
python=$1
rm -rf dist build && mkdir dist  # a stale build/ would put modules that are gone into the wheel
"$python" -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
version=$("$python" -c 'import bigfive_udf; print(bigfive_udf.__version__)')
# Executors put a .zip of --py-files on their path, but not a .whl.
"$python" - "dist/bigfive_udf-$version.zip" <<'PY'
import pathlib, sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as archive:
    for path in sorted(pathlib.Path("bigfive_udf").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            archive.write(path)
PY
cp -r jobs conf dist/
find dist -name __pycache__ -prune -exec rm -rf {} +
ls -1 dist | sed 's,^,dist/,'

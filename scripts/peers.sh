#!/usr/bin/env bash
# Make a virtual environment with the engines that the benchmarks compare with, which also sees all packages of PYTHON's
# environment: scripts/peers.sh PYTHON DIRECTORY, called by the Makefile with the python of .venv.
set -euo pipefail
python=$1 venv=$2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "setting up $venv (ONNX Runtime, OpenVINO, NNCF, Ray, Daft and MLflow: 1 GB)"
"$python" -m venv "$venv"
packages=$("$venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
"$python" -c 'import site; print(site.getsitepackages()[0])' >"$packages/base.pth"
"$venv/bin/python" -m pip --disable-pip-version-check install -c constraints.txt \
    onnxruntime==1.32.0 onnx==1.23.2 onnxscript==0.7.2 openvino==2026.4.1 nncf==3.4.0 \
    'ray[data]==2.60.0' daft==0.6.14 mlflow-skinny==3.17.2 >"$log" 2>&1 || { tail -20 "$log" >&2; exit 1; }
touch "$venv/.ready"

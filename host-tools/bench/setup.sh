#!/bin/sh
# Makes the virtual environment that `clr bench` compares with: PyTorch and ONNX Runtime from PyPI.
#
#   host-tools/bench/setup.sh [FOLDER]
#
# FOLDER defaults to the place where `clr bench` looks: $CLR_CACHE/bench-venv, or ~/.cache/clr/bench-venv; another one is
# told to it with `clr bench --python FOLDER/bin/python`. On x86-64 Linux the PyTorch wheel brings its CUDA libraries along:
# about 6 GB on disk. pip's own variables (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL …) work as ever, to take a smaller build.
set -eu

folder="${1:-${CLR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/clr}/bench-venv}"
python="${PYTHON:-python3}"

if ! command -v "$python" >/dev/null 2>&1; then
    echo "error: no '$python' on this machine" >&2
    echo "hint: install Python 3 with venv, e.g. sudo apt-get install python3-venv, or set PYTHON" >&2
    exit 1
fi

"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet numpy onnxruntime torch
"$folder/bin/python" -c 'import torch, onnxruntime; print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__)'
echo "clr bench --python $folder/bin/python"

#!/bin/sh
# Makes the virtual environment that `clr bench` compares with: inference engines and PyTorch from PyPI.
#
#   host-tools/bench/setup.sh [FOLDER]
#
# FOLDER defaults to that of `clr bench`: $CLR_CACHE/bench-venv, or ~/.cache/clr/bench-venv. For another one, run
# `clr bench --python FOLDER/bin/python`. On x86-64 Linux the PyTorch wheel includes CUDA libraries: about 6 GB on disk.
# pip's own variables (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL …) select a smaller build.
set -eu

folder="${1:-${CLR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/clr}/bench-venv}"
python="${PYTHON:-python3}"

if ! command -v "$python" >/dev/null 2>&1; then
    echo "error: no '$python' on this machine" >&2
    echo "hint: install Python 3 with venv, e.g. sudo apt-get install python3-venv, or set PYTHON" >&2
    exit 1
fi

"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet numpy onnxruntime openvino ncnn pnnx MNN torch torchvision timm
"$folder/bin/python" -m pip list | grep -iE '^(onnxruntime|openvino|ncnn|pnnx|mnn|torch|torchvision|timm) '
echo "clr bench --python $folder/bin/python"

#!/usr/bin/env bash
# Builds the C++ plugin and its harness, and runs the harness.
#
#   plugins/harness/run.sh TENSORRT_INCLUDE PACK [--no-gpu]
#
# TENSORRT_INCLUDE  folder of TensorRT's public headers (NvInferRuntime.h), version 10 or later
# PACK              a kernel pack of at least two architectures, sm_120 among them: nvfp4-trt build plugin -o PACK/
#
# CUDA_INCLUDE, if set, is the folder of cuda.h; else that of a CUDA toolkit is found. BUILD, if set, is where
# things are built; else plugins/harness/build.
set -euo pipefail

if (($# < 2)); then
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
tensorrt=$(cd "$1" && pwd)
pack=$(cd "$2" && pwd)
shift 2
build=${BUILD:-$here/build}
options=("-DTENSORRT_INCLUDE=$tensorrt" "-DNVFP4_PACK=$pack")
if [[ -n ${CUDA_INCLUDE:-} ]]; then
    options+=("-DCUDA_INCLUDE=$CUDA_INCLUDE")
fi

# make SOURCE FOLDER [OPTION...]
make() {
    cmake -S "$1" -B "$build/$2" --no-warn-unused-cli --log-level=WARNING "${options[@]}" "${@:3}"
    cmake --build "$build/$2" --parallel
}

make "$here/../tensorrt" plugin
# The same library without this GPU's cubins: sm_120 alone does for a Hopper GPU, sm_90 alone for a Blackwell.
other=120
if command -v nvidia-smi >/dev/null && [[ $(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1) == 12.0 ]]; then
    other=90
fi
make "$here/../tensorrt" without "-DNVFP4_SMS=$other"
make "$here" harness
exec "$build/harness/harness" "$build/plugin/libnvfp4_plugin.so" --without "$build/without/libnvfp4_plugin.so" "$@"

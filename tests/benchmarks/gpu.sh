#!/usr/bin/env bash
# All that nobody has measured on a GPU, in at most nine minutes on one H100: tests/benchmarks/gpu.sh [--dry] OUT
# There must be Python 3.10 or later with torch and torchvision built for the GPU's CUDA, a C compiler for one test, and
# what pyproject.toml names, the extra `test` included. Without a network, carry it along: `pip download -d wheels
# '.[test]'` on a machine like that one, and MPC_LITE_WHEELS=wheels here; what is missing is then taken from there.
# MPC_LITE_DATA, real photographs, is carried where it is at hand: without it lite-gpu trains on packaged ones alone.
set -uo pipefail

usage() { echo "usage: tests/benchmarks/gpu.sh [--dry] OUT   (--dry: what a machine without a GPU can try of it)" >&2; exit 2; }
dry=; [ "${1:-}" = --dry ] && { dry=--dry; shift; }
[ $# = 1 ] && [ "${1#-}" = "$1" ] || usage
mkdir -p "$1" && out=$(cd "$1" && pwd) || exit 2
wheels=${MPC_LITE_WHEELS:+$(cd "$MPC_LITE_WHEELS" && pwd)} || exit 2
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
root=$PWD
whole=${MPC_LITE_GPU_SECONDS:-$([ -n "$dry" ] && echo 1800 || echo 540)}
python=$(command -v python || command -v python3)

if [ -n "$wheels" ]; then
    place=$(mktemp -d)
    trap 'rm -rf "$place"' EXIT
    "$python" -m venv --system-site-packages "$place" || exit 2
    python=$place/bin/python
    "$python" -m pip install --quiet --no-index --find-links "$wheels" -e '.[test]' || exit 2
fi
export PYTHONPATH=$root OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} PYTHONUNBUFFERED=1
if [ -z "$dry" ] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "torch sees no CUDA device here; --dry tries the script without one" >&2
    exit 2
fi

{ date; "$python" -m torch.utils.collect_env; nvidia-smi; git rev-parse HEAD; } >"$out/machine.txt" 2>&1
: >"$out/parts.txt"
failed=0

# part NAME SIGNAL SECONDS COMMAND…: its output comes into OUT/NAME.log; a part that fails or is late stops no other.
# Late ones get the signal first: on INT pytest tells what it has, on TERM a training writes its checkpoint.
part() {
    local name=$1 signal=$2 limit=$3 began=$SECONDS; shift 3
    echo "== $name, at most $limit s"
    timeout --signal="$signal" --kill-after=15 "$limit" "$@" >"$out/$name.log" 2>&1
    local code=$?
    [ $code = 0 ] || failed=1
    printf '%s: exit code %d after %d s\n' "$name" $code $((SECONDS - began)) | tee -a "$out/parts.txt"
    tail -n 40 "$out/$name.log"
}

chosen=cuda
[ -n "$dry" ] && export MPC_LITE_CUDA_TESTS=cpu && chosen='cuda and not slow'
part tests INT $((whole * 2 / 5)) "$python" -m pytest -m "$chosen" tests/cuda -n 0 -v --durations=10 --junitxml "$out/tests.xml" \
    -p no:cacheprovider
part table INT $((whole * 3 / 10)) "$python" tests/benchmarks/on_cuda.py "$out/table.json" $dry
left=$((whole - SECONDS - 20))  # the last seconds are for a late checkpoint
left=$((left > 45 ? left : 45))
part training TERM $left "$python" tests/benchmarks/train_lite_gpu.py "$out/lite-gpu" --seconds $((left - 15)) $dry
echo "everything lies in $out"
exit $failed

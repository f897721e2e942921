#!/usr/bin/env bash
# Forgeries and augmentation have the same bytes under the lowest and the highest OpenCV that pyproject.toml admits.
#
#     tests/opencv_versions.sh [pytest arguments]      # default: the files of tests that hold bytes
#
# The third run is the highest without the processor's newer instructions, the fourth without Intel's IPP. Each version is installed, alone, into a
# temporary folder, which PYTHONPATH puts before the environment's own. PYTHON names the Python (default: python on the
# PATH). Needs a package index.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
[ $# -gt 0 ] || set -- -n 0 tests/forgeries/test_same_bytes.py tests/forgeries/test_resample.py tests/data/test_official.py
python=$(command -v "${PYTHON:-python}") || { echo "no ${PYTHON:-python}: set PYTHON to the one with the requirements" >&2; exit 2; }
lowest=$(sed -n 's/.*"opencv-python-headless>=\([0-9.]*\)".*/\1/p' pyproject.toml)
[ -n "$lowest" ] || { echo "pyproject.toml names no lowest opencv-python-headless" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()
within() { printf '\n== %s\n' "$1"; "${@:2}" "$python" -m pytest -p no:cacheprovider "${test[@]}" || failed+=("$1"); }
test=("$@")
for version in "==$lowest.*" ">=$lowest"; do
    folder=$(mktemp -d -p "$work")
    # Without what it depends on: its own NumPy would be another difference.
    "$python" -m pip install --quiet --no-deps --target "$folder" "opencv-python-headless$version" || exit 2
    export PYTHONPATH=$folder:$PWD
    read -r number file < <("$python" -c 'import cv2; print(cv2.__version__, cv2.__file__)')
    [[ $file == "$folder"* ]] || { echo "another OpenCV is imported: $file" >&2; exit 2; }
    within "OpenCV $number" env
done
within "OpenCV $number without AVX and FMA" env OPENCV_CPU_DISABLE=AVX512-SKX,AVX2,FMA3,FP16,AVX
within "OpenCV $number without IPP" env OPENCV_IPP=disabled
[ ${#failed[@]} -eq 0 ] && echo "the same bytes in all four" && exit 0
printf 'failed: %s\n' "${failed[@]}" >&2
exit 1

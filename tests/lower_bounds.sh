#!/usr/bin/env bash
# Do the lower bounds of pyproject.toml work? The fast tier with the lowest releases that they admit.
#
#     tests/lower_bounds.sh [pytest arguments]      # default: -m "not slow"; three gigabytes of downloads, ten of disk
#
# uv chooses the releases: of what pyproject.toml names, extras too, the lowest, and of what those need in turn the newest,
# since who installs an old release of one package today gets today's release of the others. First every module of the
# package is imported, then the tests run. PYTHON names the Python, LOWEST a folder that keeps the environment for the next
# call, TORCH a release of torch in place of the lowest one (with torchvision's, as TORCH="2.14.1 0.29.1"), where a machine
# cannot get that.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -gt 0 ] || set -- -m "not slow"
if [ -z "${LOWEST:-}" ]; then
    LOWEST=$(mktemp -d)
    trap 'rm -rf "$LOWEST"' EXIT
fi
python=$LOWEST/bin/python
[ -x "$python" ] || "${PYTHON:-python3}" -m venv "$LOWEST"

"$python" -m pip install --quiet uv
bounds=()
if [ -n "${TORCH:-}" ]; then
    printf 'torch==%s\ntorchvision==%s\n' $TORCH > "$LOWEST/torch.txt"
    bounds=(--override "$LOWEST/torch.txt")
fi
"$python" -m uv pip compile --quiet --resolution lowest-direct --all-extras ${bounds[@]+"${bounds[@]}"} \
    --python "$python" --output-file "$LOWEST/lowest.txt" pyproject.toml
"$python" -m pip install --quiet -r "$LOWEST/lowest.txt"
"$python" -m pip install --quiet --no-deps -e .
grep -i -E "^(torch|numpy|opencv-python-headless|pillow|pydantic)==" "$LOWEST/lowest.txt"

export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
"$python" - <<'CODE'
import importlib, pkgutil
import mpc_lite
names = [module.name for module in pkgutil.walk_packages(mpc_lite.__path__, "mpc_lite.") if "__main__" not in module.name]
for name in names:
    importlib.import_module(name)
print(len(names), "modules imported")
CODE
"$python" -m pytest -p no:cacheprovider "$@"

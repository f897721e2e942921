#!/usr/bin/env bash
# The tests in three environments, so that none passes only on the machine it was written on.
#
#     tests/environments.sh [pytest arguments]      # default: -m "not slow"; as root, on Linux
#
# 1. another host name, of two letters. 2. another user, without rights: a copy of this clone that it may read and not
# write, a home of its own. 3. another time zone, the C locale, colours forced, a narrow terminal. Each runs in that
# copy, which PYTHONPATH puts before an installed clone. PYTHON names the Python (default: python on the PATH).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ "$(id -u)" = 0 ] || { echo "tests/environments.sh sets a host name and changes the user: run it as root" >&2; exit 2; }
[ $# -gt 0 ] || set -- -m "not slow"
python=$(command -v "${PYTHON:-python}") || { echo "no ${PYTHON:-python}: set PYTHON to the one with the requirements" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
clone=$work/clone
mkdir "$clone" "$work/home" "$work/tmp"
git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -cf - -T - | tar -xf - -C "$clone"
chmod -R a+rX "$work" && chown nobody "$work/home" "$work/tmp"
cd "$clone"
export PYTHONPATH=$clone${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1
test=("$python" -m pytest -p no:cacheprovider "$@")

failed=()
within() { printf '\n== %s\n' "$1"; "${@:2}" || failed+=("$1"); }
# shellcheck disable=SC2016
within "host vm" unshare --uts sh -c 'hostname vm && exec "$@"' sh "${test[@]}"

nobody=(setpriv --reuid nobody --regid "$(id -g nobody)" --clear-groups --inh-caps=-all --ambient-caps=-all)
if ! "${nobody[@]}" env "$python" -c '' 2>/dev/null; then  # a Python in root's own folder: let the user read it
    nobody=("${nobody[@]:0:6}" --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search)
fi
within "user nobody" "${nobody[@]}" env HOME="$work/home" TMPDIR="$work/tmp" LOGNAME=nobody USER=nobody "${test[@]}"

within "time zone, locale, terminal" env TZ=Pacific/Chatham LC_ALL=C COLUMNS=40 FORCE_COLOR=1 "${test[@]}"

[ ${#failed[@]} -eq 0 ] && echo "all three environments passed" && exit 0
printf 'failed with: %s\n' "${failed[@]}" >&2
exit 1

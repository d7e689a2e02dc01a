# Sourced by the scripts beside it: makes .venv hold this package and its libraries.
# Needs Python 3.11 or newer; finds venv, uv or virtualenv. A second run only compares a stamp.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"

die() {
  printf 'mqttpush: %s\n' "$*" >&2
  exit 2
}

# Prints the first Python that runs and is new enough; PYTHON=... picks one.
find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  local found
  found="$(python3 --version 2>/dev/null || echo 'no python3')"
  die "needs Python 3.11 or newer, found $found; install one, or name it: PYTHON=/path/to/python3.12 $0"
}

make_venv() {
  local python log
  python="$(find_python)" || exit 2
  log="$(mktemp)"
  rm -rf "$venv"
  if "$python" -m venv "$venv" >"$log" 2>&1; then return; fi
  rm -rf "$venv"
  if command -v uv >/dev/null && uv venv --quiet --python "$python" "$venv" >>"$log" 2>&1; then return; fi
  if command -v virtualenv >/dev/null && virtualenv --quiet --python "$python" "$venv" >>"$log" 2>&1; then
    return
  fi
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    (apt-get update && apt-get install -y python3-venv) >>"$log" 2>&1 || true
    if "$python" -m venv "$venv" >>"$log" 2>&1; then return; fi
  fi
  rm -rf "$venv"
  tail -n 5 "$log" >&2
  die "cannot make a virtual environment with $python: install its venv module (Debian: apt-get" \
    "install python3-venv), or uv, or virtualenv"
}

# setup runtime | dev: what `dev` installs includes what `runtime` needs.
setup() {
  local wanted="$1" sum stamp target="$root" log
  sum="$(cksum <"$root/pyproject.toml")"
  stamp="$(cat "$venv/mqttpush-stamp" 2>/dev/null || true)"
  if [ -x "$venv/bin/mqttpush" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    case "$stamp" in
      "dev $root $sum") return ;;
      "runtime $root $sum") if [ "$wanted" = runtime ]; then return; fi ;;
    esac
  fi
  printf 'mqttpush: setting up .venv (once, about a minute) ...\n' >&2
  if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    make_venv
  fi
  if [ "$wanted" = dev ]; then target="$root[dev]"; fi
  log="$(mktemp)"
  if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      --no-warn-script-location --editable "$target" >"$log" 2>&1 || pip_failed "$log"
  elif command -v uv >/dev/null; then
    uv pip install --quiet --python "$venv/bin/python" --editable "$target" >"$log" 2>&1 || pip_failed "$log"
  else
    die "$venv has neither pip nor uv: delete that folder and try again"
  fi
  printf '%s %s %s\n' "$wanted" "$root" "$sum" >"$venv/mqttpush-stamp"
}

pip_failed() {
  tail -n 15 "$1" >&2
  die "cannot install the libraries that pyproject.toml names (see above); is there a network?"
}

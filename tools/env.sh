# Sourced by ./kvmwhy and ./check, which lie in the checkout, or with root set: finds Python and uv, and brings .venv up to uv.lock.
# Nothing outside this checkout is written, except uv's own cache; where it belongs to somebody else, the user's own cache.

root=${root:-$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)}

python=
for name in python3 python3.14 python3.13 python3.12 python3.11; do
    # The interpreter itself, not a shim in front of it: uv would take the two for different ones.
    python=$("$name" -c 'import sys; print(sys.executable if sys.version_info >= (3, 11) else "")' 2>/dev/null) || python=
    [ -z "$python" ] || break
done
if [ -z "$python" ]; then
    echo "kvmwhy needs Python 3.11 or newer, and finds none on PATH" >&2
    exit 2
fi

# The system's certificates, as git and Python use them: a company's proxy is in there.
export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS-1}" UV_PYTHON_DOWNLOADS=never

venv=$root/.venv

# is_current STAMP: nothing changed since the stamp was made.
is_current() {
    [ "$venv/.$1" -nt "$root/uv.lock" ] && [ "$venv/.$1" -nt "$root/pyproject.toml" ] && [ -x "$venv/bin/python" ]
}

# sync STAMP [UV-ARGUMENT...]: skipped when nothing changed since the stamp was made. Sets venv.
sync() {
    ! is_current "$1" || return 0
    if [ ! -w "$root" ] || { [ -e "$venv" ] && [ ! -w "$venv" ]; }; then
        venv=${XDG_CACHE_HOME:-$HOME/.cache}/kvmwhy/$(printf '%s' "$root" | cksum | cut -d ' ' -f 1)
        ! is_current "$1" || return 0
        mkdir -p "${venv%/*}"
    fi
    stamp=$venv/.$1
    shift
    uv=$("$python" "$root/tools/get_uv.py") || exit 2
    case "$*" in
        *--all-extras*) ;;
        *) set -- "$@" --extra fast ;;
    esac
    # These two of the extras have wheels for every C library but musl: there they would be compiled. What is found without
    # them is the same, and `triage` says what it needs. It is Python's own C library that counts: a host may have two.
    case $("$python" -c 'import sysconfig; print(sysconfig.get_config_var("HOST_GNU_TYPE"))') in
        *musl*) set -- "$@" --no-install-package ahocorasick-rs --no-install-package duckdb ;;
    esac
    (cd "$root" && UV_PROJECT_ENVIRONMENT="$venv" "$uv" sync --quiet --locked --inexact --python "$python" "$@") || exit 2
    : >"$stamp"
}

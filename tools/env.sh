# Sourced by ./kvmwhy and ./check, which lie in the checkout, or with root set: finds Python and uv, and brings .venv up to uv.lock.
# Nothing outside this checkout is written, except uv's own cache.

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

# sync STAMP [UV-ARGUMENT...]: skipped when nothing changed since the stamp was made.
sync() {
    stamp=$root/.venv/.$1
    shift
    if [ "$stamp" -nt "$root/uv.lock" ] && [ "$stamp" -nt "$root/pyproject.toml" ] && [ -x "$root/.venv/bin/python" ]; then
        return
    fi
    uv=$("$python" "$root/tools/get_uv.py") || exit 2
    # The fast search has a wheel for every C library but musl; where there is none it would be compiled.
    case "$* $(ldd --version 2>&1)" in
        *--all-extras* | *musl*) ;;
        *) set -- "$@" --extra fast ;;
    esac
    (cd "$root" && "$uv" sync --quiet --locked --inexact --python "$python" "$@") || exit 2
    : >"$stamp"
}

"""``kvmwhy page``: the page that explains logs in a reader's browser."""

from __future__ import annotations

from kvmwhy.cli.output import complain
from kvmwhy.cli.status import BAD_INPUT, DONE
from kvmwhy.page.packages import PackageError
from kvmwhy.page.write import write


def run(out: str, packages: str | None) -> int:
    """Write the page; return the exit status."""
    try:
        size = write(out, packages)
    except PackageError as error:
        complain(str(error))
        return BAD_INPUT
    except OSError as error:
        complain(f"{error.filename or out}: {(error.strerror or str(error)).lower()}")
        return BAD_INPUT
    how = "open it in a browser" if out.endswith((".html", ".htm")) else f"try it: python3 -m http.server -d {out}"
    if out.endswith(".zip"):
        how = "unpack it where a web server finds it"
    complain(f"{out}: {size / 1e6:.1f} MB; {how}")
    return DONE

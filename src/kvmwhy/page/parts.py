"""The files that the page loads: Python, the decoder, msgspec and kvmwhy itself, each compressed."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator
from typing import Final, NamedTuple

from kvmwhy.page.packages import ICED, MSGSPEC, PYODIDE, Package, PackageError, obtain

_HERE: Final = os.path.dirname(os.path.abspath(__file__))
_OURS: Final = os.path.dirname(_HERE)
# What a browser needs of kvmwhy: rooms and modules, without what only a command line or a host has.
_ROOMS: Final = (
    "abi",
    "arch",
    "diagnosis",
    "emulator",
    "ingest",
    "readers",
    "render",
    "__init__.py",
    "contract.py",
    "deferred_re.py",
    "pipeline.py",
    "record.py",
    "report.py",
    "vmms.py",
)
_WITHOUT: Final = ("arch/x86/capstone/", "render/fleet_")
_OF_PYODIDE: Final = ("pyodide.asm.wasm", "pyodide.asm.mjs", "pyodide.js", "python_stdlib.zip", "pyodide-lock.json")
# Under the names of packages that have no wheel for WebAssembly.
_SHIMS: Final = {"iced_x86": "iced_x86_js.py", "ahocorasick_rs": "ahocorasick_js.py"}
_ENTRY: Final = "in_browser.py"
_TIME: Final = (2020, 1, 1, 0, 0, 0)  # of every file, so that the same source gives the same page
_EXPORT: Final = "export default _createPyodideModule;"


class Part(NamedTuple):
    """A file of the page. ``name`` is what the worker calls it; ``data`` is compressed by gzip."""

    name: str
    data: bytes
    size: int  # unpacked


def parts(packages: str | None = None) -> tuple[Part, ...]:
    """All of them. Raises PackageError."""
    pyodide = _npm(PYODIDE, packages, _OF_PYODIDE)
    iced = _npm(ICED, packages, ("iced_x86.js", "iced_x86_bg.wasm"))
    contents = {
        "worker.js": _worker(pyodide, iced),
        "python.wasm": pyodide["pyodide.asm.wasm"],
        "python.zip": pyodide["python_stdlib.zip"],
        "iced.wasm": iced["iced_x86_bg.wasm"],
        "msgspec.zip": obtain(MSGSPEC, packages),
        "kvmwhy.zip": _program(),
    }
    return tuple(Part(name, gzip.compress(data, 9, mtime=0), len(data)) for name, data in contents.items())


def asset(name: str) -> str:
    """A script or style of ours."""
    with open(os.path.join(_HERE, "assets", name), encoding="utf-8") as file:
        return file.read()


def _npm(package: Package, folder: str | None, names: tuple[str, ...]) -> dict[str, bytes]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(obtain(package, folder))) as archive:
        for name in names:
            try:
                member = archive.extractfile(f"package/{name}")
            except KeyError:
                member = None
            if member is None:
                raise PackageError(f"{package.file} has no {name}")
            found[name] = member.read()
    return found


def _worker(pyodide: dict[str, bytes], iced: dict[str, bytes]) -> bytes:
    """One classic script: a page that is opened from the disk may start no worker that is a module.

    Pyodide's own loader would import the compiled module by its address; it takes it as a function as well. It refuses
    to run where ``importScripts`` works, so that is taken away. iced's package is made for Node.js: it asks for three
    of its modules, which are given to it.
    """
    module = pyodide["pyodide.asm.mjs"].decode().rstrip()
    if not module.endswith(_EXPORT):
        raise PackageError(f"{PYODIDE.file} does not end as expected")
    pieces = (
        "'use strict'; self.importScripts = undefined;",
        module.removesuffix(_EXPORT).replace("import.meta.url", "self.location.href"),
        pyodide["pyodide.js"].decode(),
        "function icedModule(module, require, __dirname) {",
        iced["iced_x86.js"].decode(),
        "}",
        f"const edition = {json.dumps(json.loads(pyodide['pyodide-lock.json'])['info'])};",
        asset("search.js"),
        asset("worker.js"),
    )
    lines = [line for piece in pieces for line in piece.split("\n") if not line.startswith("//# sourceMappingURL=")]
    return "\n".join(lines).encode()


def _program() -> bytes:
    """What is installed here, as an archive: kvmwhy, and the shims under the names of what they stand for."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(_sources()):
            _add(archive, f"kvmwhy/{path}", os.path.join(_OURS, path))
        _add(archive, f"kvmwhy/page/{_ENTRY}", os.path.join(_HERE, _ENTRY))
        _add(archive, "kvmwhy/page/__init__.py", os.path.join(_HERE, "__init__.py"))
        for name, shim in _SHIMS.items():
            _add(archive, f"{name}/__init__.py", os.path.join(_HERE, shim))
    return out.getvalue()


def _sources() -> Iterator[str]:
    for room in _ROOMS:
        top = os.path.join(_OURS, room)
        if os.path.isfile(top):
            yield room
        for folder, _, names in os.walk(top):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), _OURS).replace(os.sep, "/")
                if "__pycache__" not in path and not path.startswith(_WITHOUT):
                    yield path


def _add(archive: zipfile.ZipFile, name: str, path: str) -> None:
    with open(path, "rb") as file:
        archive.writestr(zipfile.ZipInfo(name, _TIME), file.read())

"""What the page is made of besides kvmwhy: packages of npm and PyPI, each locked by its SHA-256."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from typing import Final, Literal, NamedTuple

from kvmwhy.whole_file import write_whole


class Package(NamedTuple):
    """One release of a package. ``file`` is the name of its archive, which all clients give it."""

    registry: Literal["npm", "pypi"]
    name: str
    version: str
    file: str
    url: str
    sha256: str


PYODIDE: Final = Package(
    "npm",
    "pyodide",
    "314.0.7",
    "pyodide-314.0.7.tgz",
    "https://registry.npmjs.org/pyodide/-/pyodide-314.0.7.tgz",
    "66b7949e5a0cba2250b586d7e368bf12fb482800748d182c4618254b685ffaa0",
)
ICED: Final = Package(
    "npm",
    "iced-x86",
    "1.21.0",
    "iced-x86-1.21.0.tgz",
    "https://registry.npmjs.org/iced-x86/-/iced-x86-1.21.0.tgz",
    "88abc8fa5a1aeb0fc0e13b43689410e5e12474cba0392d38b1928636ba56e7e6",
)
MSGSPEC: Final = Package(
    "pypi",
    "msgspec",
    "0.23.0",
    "msgspec-0.23.0-cp314-cp314-pyemscripten_2026_0_wasm32.whl",
    "https://files.pythonhosted.org/packages/fa/33/67509d508c2ba46e7ddf00237259e4164dcebabc4650930bc432ccf57946/"
    "msgspec-0.23.0-cp314-cp314-pyemscripten_2026_0_wasm32.whl",
    "1836f50ad87e7c56600b648a1b75c3bbcce62835cb1f489435fc5fee8d068831",
)
PACKAGES: Final = (PYODIDE, ICED, MSGSPEC)

_TIME: Final = 300  # seconds for one package
_MOST: Final = 64 << 20


class PackageError(Exception):
    """A package cannot be had, or is not the one that is locked."""


def obtain(package: Package, folder: str | None = None) -> bytes:
    """The package's archive: out of ``folder``, out of the cache, or fetched once. Raises PackageError."""
    if folder is not None:
        return _of_folder(package, folder)
    cached = os.path.join(cache(), package.file)
    data = _read(cached)
    if data is None or not _fits(package, data):
        data = _fetched(package)
        _keep(cached, data)
    return data


def cache() -> str:
    """Where packages are kept between builds."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "kvmwhy", "packages")


def _of_folder(package: Package, folder: str) -> bytes:
    data = _read(os.path.join(folder, package.file))
    if data is None:
        raise PackageError(f"{folder} has no {package.file}; it is at {package.url}")
    if not _fits(package, data):
        raise PackageError(f"{os.path.join(folder, package.file)} is not the file that is locked: its SHA-256 differs")
    return data


def _fits(package: Package, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == package.sha256


def _fetched(package: Package) -> bytes:
    """By the registry's own client, which knows of mirrors and proxies, or without it from the address itself."""
    for command in _clients(package):
        data = _by_client(command, package)
        if data is not None and _fits(package, data):
            return data
    try:
        with urllib.request.urlopen(package.url, timeout=_TIME) as response:  # noqa: S310 -- an https address from above
            fetched: bytes = response.read(_MOST)
    except OSError as error:
        raise PackageError(
            f"{package.file} cannot be fetched ({error}); put the file from {package.url} into a folder, and name that "
            "with --packages"
        ) from error
    if not _fits(package, fetched):
        raise PackageError(f"{package.url} is not the file that is locked: its SHA-256 differs")
    return fetched


def _clients(package: Package) -> list[list[str]]:
    if package.registry == "npm":
        npm = shutil.which("npm")
        return [[npm, "pack", "--silent", f"{package.name}@{package.version}"]] if npm else []
    python, abi, platform = package.file.removesuffix(".whl").split("-")[2:]
    download = [
        "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--implementation", "cp",
        "--python-version", f"{python[2]}.{python[3:]}", "--abi", abi, "--platform", platform,
        f"{package.name}=={package.version}",
    ]  # fmt: skip
    pythons = dict.fromkeys(filter(None, (sys.executable, shutil.which("python3"), "/usr/bin/python3")))
    return [[python, *download] for python in pythons]


def _by_client(command: list[str], package: Package) -> bytes | None:
    """What the client leaves in an empty folder; None where it fails, whyever."""
    with tempfile.TemporaryDirectory(prefix="kvmwhy-") as folder:
        try:
            subprocess.run(command, cwd=folder, capture_output=True, timeout=_TIME, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return _read(os.path.join(folder, package.file))


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(_MOST)
    except OSError:
        return None


def _keep(path: str, data: bytes) -> None:
    """Without a cache the next build fetches again."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_whole(path, [data])
    except OSError:
        return

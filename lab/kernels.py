"""Debian's kernels: the newest of each series that a mirror still has, cut down to what the lab boots.

apt does the fetching, with lists and caches of its own under the work directory: nothing on this
system changes, and root is not needed. Point releases come and go, so none is named here.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from lab.architectures import X86, Architecture, busybox_suite

MIRROR: Final = "http://deb.debian.org"
KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PACKAGE: Final = r"Package: linux-(image|binary|modules)-(\d\S*-{flavour})\n"
_IMAGE_MIN: Final = 1_000_000  # a smaller linux-image is a mere dependency on linux-binary
_MODULE: Final = re.compile(r"/kernel/(?:arch/\w+/kvm|virt/lib)/([\w-]+\.ko)(\.xz)?$")
_IMAGE: Final = re.compile(r"/vmlinu[xz](?:-[^/]*)?$")
_FLAVOUR: Final = re.compile(r"-(?:cloud-)?(?:amd64|arm64|riscv64)$")
# What apt says of a mirror that does not answer, and of a package that it lists and does not have, or does not list.
_NOT_TO_BE_HAD: Final = re.compile(
    r"Failed to fetch|Could not (?:resolve|connect)|Unable to (?:connect|locate package|fetch)|no Release file|404 +Not"
)
# Statuses of `fetch`: with MISSING a mirror has it not, or does not answer; FAILED is this program's or system's doing.
FETCHED, FAILED, MISSING = 0, 1, 4


class Available(NamedTuple):
    release: str
    suite: str
    packages: tuple[str, ...]
    size: int  # of the download, in bytes

    @property
    def series(self) -> str:
        return series_of(self.release)


class Step(NamedTuple):
    """One thing that a fetch did, or could not do."""

    result: Literal["done", "not to be had", "failed"]
    text: str


class Kernel(NamedTuple):
    """One that has been fetched: ``vmlinuz`` and plain ``*.ko`` in a directory named after the release."""

    release: str
    directory: Path

    @property
    def image(self) -> Path:
        return self.directory / "vmlinuz"

    def modules(self, last: str | None) -> tuple[Path, ...]:
        """That module and what it depends on, in the order of insmod; none if KVM is built in."""
        order: list[str] = []

        def add(name: str) -> None:
            match = re.search(rb"\0depends=([^\0]*)\0", self._module(name).read_bytes())
            for dependency in match[1].decode().split(",") if match else ():
                if dependency and dependency not in order:
                    add(dependency)
            order.append(name)

        if last:
            add(last)
        return tuple(map(self._module, order))

    def _module(self, name: str) -> Path:
        """The kernel spells a module with ``_``, its file may have ``-``."""
        for spelling in (name, name.replace("_", "-")):
            path = self.directory / f"{spelling}.ko"
            if path.exists():
                return path
        raise FileNotFoundError(f"{self.release}: no module {name} in {self.directory}")


class NotToBeHadError(Exception):
    """The mirror does not answer, or does not have it."""


def series_of(release: str) -> str:
    return ".".join(release.split(".")[:2])


def version_of(release: str) -> tuple[int, ...]:
    """For sorting: 6.12.117+deb13 is newer than 6.12.43+deb13."""
    return tuple(map(int, re.findall(r"\d+", _FLAVOUR.sub("", release))))


def fetched(work: Path, architecture: Architecture = X86) -> list[Kernel]:
    """Oldest first."""
    directories = [path.parent for path in (work / "kernels").glob("*/complete")]
    kernels = [Kernel(path.name, path) for path in directories if path.name.endswith(f"-{architecture.flavour}")]
    return sorted(kernels, key=lambda kernel: version_of(kernel.release))


def choose(work: Path, wanted: Sequence[str], architecture: Architecture = X86) -> list[Kernel]:
    """Those of the wanted series, or releases; all, if nothing is wanted in particular."""
    kernels = fetched(work, architecture)
    newest = {series_of(kernel.release): kernel for kernel in kernels}
    if not wanted:
        return list(newest.values())
    chosen = []
    for name in wanted:
        exact = [kernel for kernel in kernels if kernel.release == name]
        if not exact and name not in newest:
            raise FileNotFoundError(
                f"no kernel {name} for {architecture.name} in {work / 'kernels'}: run `fetch --kernel {name}` first"
            )
        chosen.append(exact[0] if exact else newest[name])
    return chosen


def busybox(work: Path, architecture: Architecture) -> Path:
    """The one that runs there: fetched for another architecture, this machine's own else."""
    return work / "busybox" / architecture.name if busybox_suite(architecture) else Path("/bin/busybox")


def status_of(steps: Iterable[Step]) -> int:
    """The exit status of a fetch."""
    results = {step.result for step in steps}
    return FAILED if "failed" in results else MISSING if "not to be had" in results else FETCHED


def fetch(work: Path, wanted: Sequence[str], mirror: str = MIRROR, architecture: Architecture = X86) -> Iterator[Step]:
    """Fetch the newest of each (wanted) series."""
    best: dict[str, Available] = {}
    for suite in architecture.suites:
        try:
            environment = updated(work, suite, mirror, architecture)
        except NotToBeHadError as error:
            # No loss, if another suite has what is wanted.
            yield Step("done" if wanted else "not to be had", f"{suite}: cannot be had: {error}")
            continue
        except OSError as error:
            yield Step("failed", f"{suite}: {error}")
            continue
        for kernel in _available(suite, environment, architecture):
            known = best.get(kernel.series)
            if known is None or version_of(kernel.release) > version_of(known.release):
                best[kernel.series] = kernel
    for name in wanted:
        if name not in best:
            there = ", ".join(sorted(best)) or "none"
            yield Step("not to be had", f"{name}: no suite has a whole kernel of this series; there are {there}")
    for series, kernel in sorted(best.items(), key=lambda item: version_of(item[1].release)):
        if not wanted or series in wanted:
            yield _fetched(work, kernel, mirror, architecture)
    if busybox_suite(architecture) and not busybox(work, architecture).exists():
        yield attempt("busybox", lambda: _download_busybox(work, mirror, architecture))


def _fetched(work: Path, kernel: Available, mirror: str, architecture: Architecture) -> Step:
    if (work / "kernels" / kernel.release / "complete").exists():
        return Step("done", f"{kernel.release}: is here")

    def download() -> str:
        _download(work, kernel, mirror, architecture)
        return f"{kernel.size / 1e6:.1f} MB from {kernel.suite}"

    return attempt(kernel.release, download)


def attempt(name: str, download: Callable[[], str]) -> Step:
    try:
        return Step("done", f"{name}: {download()}")
    except NotToBeHadError as error:
        return Step("not to be had", f"{name}: cannot be had: {error}")
    except (OSError, subprocess.CalledProcessError, tarfile.TarError, lzma.LZMAError) as error:
        return Step("failed", f"{name}: {error}")


def run_apt(arguments: Sequence[str], environment: dict[str, str], directory: Path | None = None) -> None:
    """Raises NotToBeHadError, or OSError with what apt says."""
    ran = subprocess.run(
        ["apt-get", "-qq", *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        first = (ran.stderr.strip() or f"apt-get {arguments[0]} failed").splitlines()[0]
        raise NotToBeHadError(first) if _NOT_TO_BE_HAD.search(ran.stderr) else OSError(first)


def updated(work: Path, suite: str, mirror: str, architecture: Architecture) -> dict[str, str]:
    environment = _apt(work, suite, mirror, architecture)
    run_apt(["-o", "APT::Update::Error-Mode=any", "update"], environment)  # or it would only warn of a silent mirror
    return environment


def _apt(work: Path, suite: str, mirror: str, architecture: Architecture) -> dict[str, str]:
    """The environment of an apt that knows this suite and nothing else."""
    root = work / "apt" / f"{suite}-{architecture.debian}"
    for part in ("lists/partial", "cache/archives/partial", "etc/empty"):
        (root / part).mkdir(parents=True, exist_ok=True)
    archive = "debian-security" if suite.endswith("-security") else "debian"
    options = f"signed-by={KEYRING} arch={architecture.debian}"
    (root / "etc/sources.list").write_text(f"deb [{options}] {mirror}/{archive} {suite} main\n")
    config = {
        "Dir::Etc::sourcelist": root / "etc/sources.list",
        "Dir::Etc::sourceparts": root / "etc/empty",
        "Dir::Etc::preferencesparts": root / "etc/empty",
        "Dir::State::Lists": root / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": root / "cache",
        "Acquire::Languages": "none",
        "APT::Architecture": architecture.debian,
        "APT::Architectures": architecture.debian,
        "APT::Sandbox::User": "root",
    }
    (root / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in config.items()))
    return {**os.environ, "APT_CONFIG": str(root / "apt.conf")}


def _available(suite: str, environment: dict[str, str], architecture: Architecture) -> Iterator[Available]:
    dump = subprocess.run(["apt-cache", "dumpavail"], env=environment, capture_output=True, text=True, check=True)
    package = re.compile(_PACKAGE.format(flavour=re.escape(architecture.flavour)))
    kernels: dict[str, dict[str, int]] = {}
    for stanza in dump.stdout.split("\n\n"):
        if (name := package.match(stanza)) and (size := re.search(r"^Size: (\d+)", stanza, re.MULTILINE)):
            kernels.setdefault(name[2], {})[name[1]] = int(size[1])
    for release, parts in kernels.items():
        if "rc" in release:
            continue
        if parts.get("image", 0) > _IMAGE_MIN:
            kinds: tuple[str, ...] = ("image",)
        elif {"binary", "modules"} <= parts.keys():
            kinds = ("binary", "modules")
        else:  # the modules have left the archive before the image
            continue
        yield Available(
            *(release, suite, tuple(f"linux-{kind}-{release}" for kind in kinds)), sum(parts[kind] for kind in kinds)
        )


def _download(work: Path, kernel: Available, mirror: str, architecture: Architecture) -> None:
    target = work / "kernels" / kernel.release
    packages = target / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    run_apt(["download", *kernel.packages], _apt(work, kernel.suite, mirror, architecture), packages)
    for package in packages.glob("*.deb"):
        _unpack(package, target)
    shutil.rmtree(packages)
    for needed in ("vmlinuz", *architecture.modules):
        if not (target / needed).exists():
            raise FileNotFoundError(f"{', '.join(kernel.packages)}: no {needed} inside")
    (target / "complete").touch()


def _unpack(package: Path, target: Path) -> None:
    """The kernel and KVM's modules, out of 40 to 100 MB."""
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            module = _MODULE.search(member.name)
            kernel = _IMAGE.search(member.name)
            if not member.isfile() or not (module or kernel):
                continue
            stream = archive.extractfile(member)
            data = stream.read() if stream else b""
            if module and module[2]:
                data = lzma.decompress(data)
            (target / (module[1] if module else "vmlinuz")).write_bytes(data)
        while process.stdout and process.stdout.read(1 << 16):  # padding; dpkg-deb would die of SIGPIPE
            pass
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, ["dpkg-deb", str(package)])


def _download_busybox(work: Path, mirror: str, architecture: Architecture) -> str:
    suite = busybox_suite(architecture) or ""
    environment = updated(work, suite, mirror, architecture)
    target = busybox(work, architecture)
    with tempfile.TemporaryDirectory(dir=work) as name:
        directory = Path(name)
        run_apt(["download", "busybox-static"], environment, directory)
        (package,) = directory.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, directory / "root"], check=True)
        found = next(path for path in directory.glob("root/**/bin/busybox") if path.is_file())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(found, target)
    return f"from {suite}"

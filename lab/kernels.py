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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

SUITES: Final = ("bullseye-security", "bookworm-security", "trixie-security", "trixie-backports", "sid")
MIRROR: Final = "http://deb.debian.org"
KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
# The cloud flavour has all of KVM and a third of the size.
_PACKAGE: Final = re.compile(r"Package: linux-(image|binary|modules)-(\d\S*-cloud-amd64)\n")
_IMAGE_MIN: Final = 1_000_000  # a smaller linux-image is a mere dependency on linux-binary
_MODULE: Final = re.compile(r"/kernel/(?:arch/x86/kvm|virt/lib)/([\w-]+\.ko)(\.xz)?$")


class Available(NamedTuple):
    release: str
    suite: str
    packages: tuple[str, ...]
    size: int  # of the download, in bytes

    @property
    def series(self) -> str:
        return series_of(self.release)


class Kernel(NamedTuple):
    """One that has been fetched: ``vmlinuz`` and plain ``*.ko`` in a directory named after the release."""

    release: str
    directory: Path

    @property
    def image(self) -> Path:
        return self.directory / "vmlinuz"

    def modules(self, vendor_module: str) -> tuple[Path, ...]:
        """That module and what it depends on, in the order of insmod."""
        order: list[str] = []

        def add(name: str) -> None:
            match = re.search(rb"\0depends=([^\0]*)\0", self._module(name).read_bytes())
            for dependency in match[1].decode().split(",") if match else ():
                if dependency and dependency not in order:
                    add(dependency)
            order.append(name)

        add(vendor_module)
        return tuple(map(self._module, order))

    def _module(self, name: str) -> Path:
        """The kernel spells a module with ``_``, its file may have ``-``."""
        for spelling in (name, name.replace("_", "-")):
            path = self.directory / f"{spelling}.ko"
            if path.exists():
                return path
        raise FileNotFoundError(f"{self.release}: no module {name} in {self.directory}")


def series_of(release: str) -> str:
    return ".".join(release.split(".")[:2])


def version_of(release: str) -> tuple[int, ...]:
    """For sorting: 6.12.117+deb13 is newer than 6.12.43+deb13."""
    return tuple(map(int, re.findall(r"\d+", release.partition("-cloud")[0])))


def fetched(work: Path) -> list[Kernel]:
    """Oldest first."""
    directories = [path.parent for path in (work / "kernels").glob("*/complete")]
    return sorted((Kernel(path.name, path) for path in directories), key=lambda k: version_of(k.release))


def choose(work: Path, wanted: Sequence[str]) -> list[Kernel]:
    """Those of the wanted series, or releases; all, if nothing is wanted in particular."""
    kernels = fetched(work)
    newest = {series_of(kernel.release): kernel for kernel in kernels}
    if not wanted:
        return list(newest.values())
    found = []
    for name in wanted:
        exact = [kernel for kernel in kernels if kernel.release == name]
        if not exact and name not in newest:
            raise FileNotFoundError(f"no kernel {name} in {work / 'kernels'}: run `fetch --kernel {name}` first")
        found.append(exact[0] if exact else newest[name])
    return found


def fetch(work: Path, wanted: Sequence[str], mirror: str = MIRROR) -> Iterator[str]:
    """Fetch the newest of each (wanted) series. Yields a line for each thing done, or not to be had."""
    best: dict[str, Available] = {}
    for suite in SUITES:
        environment = _apt(work, suite, mirror)
        update = subprocess.run(
            ["apt-get", "update", "-qq"], env=environment, capture_output=True, text=True, check=False
        )
        if update.returncode:
            yield f"{suite}: cannot be had: {(update.stderr.strip() or 'apt-get update failed').splitlines()[0]}"
            continue
        for kernel in _available(suite, environment):
            known = best.get(kernel.series)
            if known is None or version_of(kernel.release) > version_of(known.release):
                best[kernel.series] = kernel
    for name in wanted:
        if name not in best:
            yield f"{name}: no suite has a whole kernel of this series; there are {', '.join(sorted(best))}"
    for series, kernel in sorted(best.items(), key=lambda item: version_of(item[1].release)):
        if wanted and series not in wanted:
            continue
        if (work / "kernels" / kernel.release / "complete").exists():
            yield f"{kernel.release}: is here"
            continue
        try:
            _download(work, kernel, mirror)
        except (OSError, subprocess.CalledProcessError, tarfile.TarError) as error:
            yield f"{kernel.release}: cannot be had: {error}"
        else:
            yield f"{kernel.release}: {kernel.size / 1e6:.1f} MB from {kernel.suite}"


def _apt(work: Path, suite: str, mirror: str) -> dict[str, str]:
    """The environment of an apt that knows this suite and nothing else."""
    root = work / "apt" / suite
    for part in ("lists/partial", "cache/archives/partial", "etc/empty"):
        (root / part).mkdir(parents=True, exist_ok=True)
    archive = "debian-security" if suite.endswith("-security") else "debian"
    (root / "etc/sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror}/{archive} {suite} main\n")
    config = {
        "Dir::Etc::sourcelist": root / "etc/sources.list",
        "Dir::Etc::sourceparts": root / "etc/empty",
        "Dir::Etc::preferencesparts": root / "etc/empty",
        "Dir::State::Lists": root / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": root / "cache",
        "Acquire::Languages": "none",
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "root",
    }
    (root / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in config.items()))
    return {**os.environ, "APT_CONFIG": str(root / "apt.conf")}


def _available(suite: str, environment: dict[str, str]) -> Iterator[Available]:
    dump = subprocess.run(["apt-cache", "dumpavail"], env=environment, capture_output=True, text=True, check=True)
    kernels: dict[str, dict[str, int]] = {}
    for stanza in dump.stdout.split("\n\n"):
        if (name := _PACKAGE.match(stanza)) and (size := re.search(r"^Size: (\d+)", stanza, re.MULTILINE)):
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


def _download(work: Path, kernel: Available, mirror: str) -> None:
    target = work / "kernels" / kernel.release
    packages = target / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    environment = _apt(work, kernel.suite, mirror)
    subprocess.run(["apt-get", "download", "-qq", *kernel.packages], cwd=packages, env=environment, check=True)
    for package in packages.glob("*.deb"):
        _unpack(package, target)
    shutil.rmtree(packages)
    for needed in ("vmlinuz", "kvm.ko", "kvm-amd.ko", "kvm-intel.ko"):
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
            kernel = os.path.basename(member.name).startswith("vmlinuz")
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

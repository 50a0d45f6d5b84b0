"""Boot a kernel on a bench, run one shell command there, and take what it wrote to its standard output.

    kernel, = choose(work, ["6.12"], ARM64)
    output = run("arm64", kernel, "python3 /tests/x.py", work, root=Path("root"), memory=1024, limit=300)

``root`` is a directory that becomes the machine's root file system, with its symbolic links and modes; busybox lies
over it as /bin/busybox, with a link in /bin for each of its programs that are not there. /dev/kvm, /proc, /sys and
tracefs are there; the command is run as root by busybox's shell, with /dev/console as a place for progress.
"""

from __future__ import annotations

import base64
import gzip
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lab import initramfs
from lab.benches import HERE, BenchError, first_process, power_on
from lab.kernels import Kernel


class Output(NamedTuple):
    """What a boot left on the serial line, taken apart."""

    data: bytes  # the command's standard output
    status: int  # its exit status
    marks: dict[str, str]  # release, version, cpu, and uptimes: init, ready, ran
    parameters: dict[str, str]
    failed: tuple[str, ...]  # modules that did not load; the last lines of the command's standard error, if it failed
    seconds: float  # from power-on to power-off
    text: str


class StoppedError(BenchError):
    """The machine ended before the command did. ``text``: its console so far."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


def run(
    bench: str,
    kernel: Kernel,
    command: str,
    work: Path,
    *,
    files: Mapping[str, bytes] | None = None,
    root: Path | None = None,
    settings: Mapping[str, str] | None = None,
    kernel_args: str = "",
    memory: int = 512,
    limit: float = 300.0,
    scratch: str = "command",
) -> Output:
    """Run it in a machine with these files. Raises StoppedError; BenchError if a file is missing, or its output torn.

    ``settings``: variables of lab/init, such as ARGS of the last module. ``scratch``: a name for the directory of
    what the boot leaves, lest two overwrite each other's.
    """
    directory = work / bench / scratch / kernel.release
    directory.mkdir(parents=True, exist_ok=True)
    known = {"ARGS": "", "KVM_ARGS": "", **(settings or {})}
    first = first_process(bench, kernel, (HERE / "init").read_bytes(), work, known)
    initrd = directory / "initrd"
    initrd.write_bytes(initramfs.pack({**first, "command": f"{command}\n".encode(), **(files or {})}, root))
    started = time.monotonic()
    text = power_on(bench, kernel, initrd, limit, memory=memory, kernel_args=kernel_args)
    seconds = time.monotonic() - started
    (directory / "serial.txt").write_text(text)
    return understand(text, seconds, directory / "serial.txt")


def understand(text: str, seconds: float, where: Path) -> Output:
    """Take a console's text apart. Raises as ``run``."""
    marks: dict[str, str] = {}
    parameters: dict[str, str] = {}
    failed: list[str] = []
    encoded: list[str] = []
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "@@parameter":
            key, _, setting = value.partition("=")
            parameters[key] = setting
        elif name == "@@failed":
            failed.append(value)
        elif name.startswith("@@"):
            marks[name[2:]] = value
        elif "output" in marks and "end" not in marks:
            encoded.append(line)
    if "end" not in marks:
        last = next(reversed(marks), "not even init")
        raise StoppedError(
            f"it stopped after {seconds:.0f} s; the last it said was: {last} {marks.get(last, '')}; see {where}", text
        )
    try:
        data = gzip.decompress(base64.b64decode("".join(encoded)))
    except (ValueError, EOFError, OSError) as error:
        raise BenchError(f"the output was torn on its way: {error}; see {where}") from None
    return Output(data, int(marks["end"] or 0), marks, parameters, tuple(failed), seconds, text)

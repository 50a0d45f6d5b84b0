"""What the lines around a failure say of the host: name, kernel, microcode, VMM, the guest's RAM."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from kvmwhy.ingest.log_prefix import peel
from kvmwhy.ingest.wrapping import HINT
from kvmwhy.readers.host_context import host_of
from kvmwhy.record import Host

_MARKS: Final = (b"kernel", b"microcode", b"kvm_", b"kvm-", b"QEMU ", b"qemu", b"Linux version ", b"Intel", b"AMD")
_NAME: Final = re.compile(r"\bhostname: ([\w.-]{1,255})")
_START: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_MICROCODE: Final = re.compile(
    r"\bmicrocode\s{0,16}:(?:[^\n]{0,80}?(?:revision[:= ]{1,2}|patch_level=)| ?)(0x[0-9a-f]{1,10})(?![0-9a-z])"
)
_LINUX: Final = re.compile(r"\bLinux version (\d{1,2}\.\d{1,4}\S{0,60})")
_NOTHING: Final = Host()


class Around(NamedTuple):
    """``start`` is when the guest was started, as libvirt wrote it: its failures are not older."""

    host: Host = _NOTHING
    name: str = ""
    microcode: str | None = None
    start: str = ""


NOWHERE: Final = Around()


def around(before: bytes, header: bytes) -> Around:
    """What ``before``, the lines in front of a failure, and libvirt's ``header`` say."""
    if not header and not (before and any(mark in before for mark in _MARKS)):
        return NOWHERE
    return _around(before, header)


@lru_cache(maxsize=256)
def _around(before: bytes, header: bytes) -> Around:
    lines = before.decode("utf-8", "replace").split("\n")
    text = "\n".join(said.text if HINT.match(line) and (said := peel(line)) else line for line in lines)
    head = header.decode("utf-8", "replace")
    host = host_of(f"{head}\n{text}")
    if host.kernel is None and (kernel := kernel_in(text)):
        host = Host(**{n: getattr(host, n) for n in host.__struct_fields__ if n != "kernel"}, kernel=kernel)
    name, start = _NAME.search(head), _START.match(head)
    return Around(
        _NOTHING if host == _NOTHING else host, name[1] if name else "", microcode_in(text), start[0] if start else ""
    )


def microcode_in(text: str) -> str | None:
    """The microcode's revision, if the text names one only."""
    found = set(_MICROCODE.findall(text)) if "microcode" in text else set()
    return found.pop() if len(found) == 1 else None


def kernel_in(text: str) -> str | None:
    """The kernel's release, as its first line has it."""
    found = set(_LINUX.findall(text)) if "Linux version " in text else set()
    return found.pop() if len(found) == 1 else None

"""What the lines around a failure say of its host: name, kernel, microcode, and when the guest was started."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from kvmwhy.ingest.window import Window

_NAME: Final = re.compile(rb"\bhostname: ([\w.-]{1,255})")
_STARTED: Final = re.compile(rb"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)[^\n]{0,40}: starting up libvirt")
_LIBVIRT: Final = b": starting up libvirt"
_MICROCODE: Final = re.compile(
    rb"\bmicrocode\s{0,16}:(?:[^\n]{0,80}?(?:revision[:= ]{1,2}|patch_level=)| ?)(0x[0-9a-f]{1,10})(?![0-9a-z])"
)
_LINUX: Final = re.compile(rb"\bLinux version (\d{1,2}\.\d{1,4}\S{0,60})")
_HEADER: Final = 8 << 10


class Around(NamedTuple):
    """``started`` is when the guest was, as libvirt wrote it: its failures are not older."""

    name: str = ""
    started: str = ""
    kernel: str | None = None
    microcode: str | None = None


NOTHING: Final = Around()


def around(window: Window | None, offset: int) -> Around:
    """What a window, and libvirt's last lines before the failure at an offset of the input, say."""
    if window is None:
        return NOTHING
    about = _of_window(window.data) if b"microcode" in window.data or b"Linux version " in window.data else NOTHING
    mark = window.data.rfind(_LIBVIRT, 0, max(0, offset - window.offset))
    header = window.data[max(0, mark - 64) : mark + _HEADER] if mark >= 0 else window.header
    if not header:
        return about
    started, name = _STARTED.search(header), name_in(header)
    return about._replace(name=name, started=started[1].decode() if started else "")


def name_in(header: bytes) -> str:
    """The host's name, in what libvirt writes when it starts a guest."""
    match = _NAME.search(header) if b"hostname: " in header else None
    return match[1].decode("utf-8", "replace") if match else ""


@lru_cache(maxsize=4)
def _of_window(data: bytes) -> Around:
    return Around(kernel=_only(_LINUX.findall(data)), microcode=_only(_MICROCODE.findall(data)))


def _only(names: list[bytes]) -> str | None:
    """What is named, if it is one thing only."""
    return names[0].decode("utf-8", "replace") if len(set(names)) == 1 else None

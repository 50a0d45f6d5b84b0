"""What people hold, read into records: one file per format, each ``bytes → failures + damage``.

A reader never raises on damage. It returns what it could read and says what was torn. Every piece of
evidence is given to each reader that recognises it: a report to a list has the VMM's dump, the
kernel's lines and a trace of the same failure in one mail.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, Final, NamedTuple

from kvmwhy.ingest import marks
from kvmwhy.ingest.multi_search import present
from kvmwhy.readers.anchors.not_kvm import ANCHORS as OTHER_HYPERVISORS
from kvmwhy.readers.anchors.setup_messages import ANCHORS as SET_UPS
from kvmwhy.readers.anchors.symptom import ANCHORS as SYMPTOMS
from kvmwhy.readers.anchors.vmm_messages import ANCHORS as VMM_LINES
from kvmwhy.record import Failure


class Evidence(NamedTuple):
    """What one piece of evidence told. ``damage`` is about the piece, not about one failure."""

    failures: tuple[Failure, ...] = ()
    damage: tuple[str, ...] = ()
    format: str | None = None


class Format(NamedTuple):
    """A reader: a module with ``detect`` and ``read``, imported when the first evidence is read.

    Of text, ``detect(text: str)`` and ``read(text: Text, *, path, first_line)``; of bytes,
    ``detect(data: bytes)`` and ``read(data, *, path)``.
    """

    name: str
    module: str
    marks: tuple[str, ...] = ()  # none of them in a text: nothing for this reader, and it is not even imported
    last: bool = False  # only for what no other reader finds a failure in

    def load(self) -> Any:
        return _reader(self.module)


@cache
def _reader(module: str) -> Any:
    return import_module(f"kvmwhy.readers.{module}")


# What is no text: the first that recognises the input has it.
OF_BYTES: Final = (
    (b"\x17\x08\x44tracing", Format("trace.dat", "trace.trace_dat")),
    (b"\x7fELF", Format("core", "core_dump")),
    (b"", Format("kvm_run page", "run_page")),
)
# Text: each that recognises it, the one that knows most first.
OF_TEXT: Final = (
    Format("QEMU log", "qemu.log"),
    Format("VMM line", "vmm_messages", VMM_LINES),
    Format("kernel log", "kernel_log", marks.KERNEL_LOG),
    Format("trace", "trace.ftrace", marks.TRACE),
    Format("illumos KVM ring buffer", "illumos_ring", marks.ILLUMOS),
    Format("set-up message", "setup_messages", SET_UPS),
    Format("other hypervisor", "not_kvm", OTHER_HYPERVISORS),
    Format("word dump", "word_dump", marks.WORDS, last=True),
    Format("symptom", "symptom", SYMPTOMS, last=True),
)


@cache
def _asked() -> tuple[Callable[[bytes], set[int]], tuple[Format, ...]]:
    """What finds all marks of all readers in one pass, and the reader of each."""
    each = [(mark.encode(), format_) for format_ in OF_TEXT for mark in format_.marks]
    return present([mark for mark, _ in each]), tuple(format_ for _, format_ in each)


def readers_of(text: str) -> list[Format]:
    """The readers that may find something in a text, in their order."""
    found, owners = _asked()
    named = {owners[which] for which in found(text.encode("utf-8", "replace"))}
    return [format_ for format_ in OF_TEXT if not format_.marks or format_ in named]


def read(data: bytes, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """Read any supported evidence; the format is recognised by content, never by name."""
    for magic, format_ in OF_BYTES:
        if not data.startswith(magic):
            continue
        reader = format_.load()
        if reader.detect(data):
            found: Evidence = reader.read(data, path=path)
            return found
    from kvmwhy.readers import kvmwhy_json
    from kvmwhy.readers.reading import read_text

    own = Evidence()
    if kvmwhy_json.detect(data):
        own, data = kvmwhy_json.take(data, first_line=first_line)
    evidence = read_text(data, path=path, first_line=first_line)
    return Evidence(
        (*own.failures, *evidence.failures),
        (*own.damage, *evidence.damage),
        " + ".join(name for name in (own.format, evidence.format) if name) or None,
    )

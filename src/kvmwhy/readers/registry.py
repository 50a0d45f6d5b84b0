"""The readers, in the order in which a text is given to them, and what their anchors come to.

A new reader is a line in ``READERS`` and a module in ``anchors`` that declares what its texts hold; it is imported when
the first such text comes.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from kvmwhy.ingest.anchors import Anchor, anchors_of, holds
from kvmwhy.ingest.multi_search import Seeker

if TYPE_CHECKING:
    from kvmwhy.ingest.anchor_search import AnchorSearch


class Reader(Struct, frozen=True):
    """A module of ``readers``.

    Of text, with ``read(text: Text, *, path, first_line)``; of bytes, with ``detect(data: bytes)`` and
    ``read(data, *, path)``. ``declares`` is the module of ``anchors`` that has its ``ANCHORS``.
    """

    name: str
    module: str
    declares: str = ""
    last: bool = False  # only for what no other reader finds a failure in

    def load(self) -> Any:
        """The reader's module, imported."""
        return _module(f"kvmwhy.readers.{self.module}")

    @property
    def anchors(self) -> tuple[Anchor, ...]:
        """What a text must hold for this reader to read anything of it: one of these."""
        return _anchors(self.declares)


_module = cache(import_module)

# What is no text: the first that recognises the input has it.
OF_BYTES: Final = (
    (b"\x17\x08\x44tracing", Reader("trace.dat", "trace.trace_dat")),
    (b"\x7fELF", Reader("core", "core_dump")),
    (b"", Reader("kvm_run page", "run_page")),
)
# Text: each that has an anchor in it, the one that knows most first.
READERS: Final = (
    Reader("QEMU log", "qemu.log", "qemu"),
    Reader("VMM line", "vmm_messages", "vmm_messages"),
    Reader("kernel log", "kernel_log", "kernel_log"),
    Reader("trace", "trace.ftrace", "trace"),
    Reader("illumos KVM ring buffer", "illumos_ring", "illumos_ring"),
    Reader("host memory error", "host_memory", "host_memory"),
    Reader("set-up message", "setup_messages", "setup_messages"),
    Reader("other hypervisor", "not_kvm", "not_kvm"),
    Reader("results of KVM_RUN", "run_results", "run_results"),
    Reader("word dump", "word_dump", "word_dump", last=True),
    Reader("QEMU reset log", "qemu.reset_log", "reset_log", last=True),
    Reader("symptom", "symptom", "symptom", last=True),
)
_SHORT: Final = 64 << 10  # characters: what is longer is searched for all anchors at once
_OWN: Final = "kvmwhy_json"  # is taken out of a text before the readers get it


@cache
def _anchors(module: str) -> tuple[Anchor, ...]:
    return anchors_of(_module(f"kvmwhy.readers.anchors.{module}").ANCHORS)


def readers_of(text: str) -> list[Reader]:
    """The readers that may find something in a plain text, in their order."""
    needles = _needles()
    numbers: set[int] = set()
    for n in sorted(_short(text) if len(text) <= _SHORT else _long(text)):
        reader, anchor, _ = needles[n]
        if reader not in numbers and holds(anchor, text):
            numbers.add(reader)
    return [READERS[number] for number in sorted(numbers)]


def _short(text: str) -> set[int]:
    """The needles that may be there, white space aside."""
    plain = " ".join(text.split())
    return {which for which, _, _ in _seek()(plain.encode("utf-8", "replace"))}


def _long(text: str) -> set[int]:
    anchors = search().candidates(text.encode("utf-8", "replace"))
    return {n for n, (_, anchor, _) in enumerate(_needles()) if anchor in anchors}


@cache
def _needles() -> tuple[tuple[int, Anchor, str], ...]:
    """What to look for, and for which reader; first what needs nothing near it, which is found at once."""
    needles = (
        (number, anchor, " ".join(anchor.text.split()))
        for number, reader in enumerate(READERS)
        for anchor in reader.anchors
    )
    return tuple(sorted(needles, key=lambda needle: bool(needle[1].near)))


@cache
def _seek() -> Seeker:
    return Seeker([needle.encode() for _, _, needle in _needles()])


@cache
def search() -> AnchorSearch:
    """What finds the anchors of all readers in an input as it comes. Made when the first large one does."""
    from kvmwhy.ingest.anchor_search import AnchorSearch

    return AnchorSearch(anchor for name in _declaring() for anchor in _anchors(name))


def _declaring() -> list[str]:
    return [*(reader.declares for reader in READERS), _OWN]

"""The readers, in the order in which a text is given to them, and what their anchors come to.

A new reader is a line in ``READERS`` and a module in ``anchors`` that declares what its texts hold; it is imported when
the first such text comes.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kvmwhy.ingest.anchors import Anchor, anchors_of, holds

if TYPE_CHECKING:
    from kvmwhy.ingest.anchor_search import AnchorSearch


class Reader(NamedTuple):
    """A module of ``readers`` with ``detect`` and ``read``.

    Of text, ``detect(text: str)`` and ``read(text: Text, *, path, first_line)``; of bytes, ``detect(data: bytes)`` and
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
# Text: each that recognises it, the one that knows most first.
READERS: Final = (
    Reader("QEMU log", "qemu.log", "qemu"),
    Reader("VMM line", "vmm_messages", "vmm_messages"),
    Reader("kernel log", "kernel_log", "kernel_log"),
    Reader("trace", "trace.ftrace", "trace"),
    Reader("illumos KVM ring buffer", "illumos_ring", "illumos_ring"),
    Reader("set-up message", "setup_messages", "setup_messages"),
    Reader("other hypervisor", "not_kvm", "not_kvm"),
    Reader("word dump", "word_dump", "word_dump", last=True),
    Reader("symptom", "symptom", "symptom", last=True),
)
_SHORT: Final = 64 << 10  # characters: what is longer is searched for all anchors at once
_OWN: Final = "kvmwhy_json"  # is taken out of a text before the readers get it


@cache
def _anchors(module: str) -> tuple[Anchor, ...]:
    return anchors_of(_module(f"kvmwhy.readers.anchors.{module}").ANCHORS)


def readers_of(text: str) -> list[Reader]:
    """The readers that may find something in a plain text, in their order."""
    if len(text) <= _SHORT:
        return [reader for reader in READERS if any(holds(anchor, text) for anchor in reader.anchors)]
    found = {hit.anchor for hit in search().hits(text.encode("utf-8", "replace"))}
    return [reader for reader in READERS if not found.isdisjoint(reader.anchors)]


@cache
def search() -> AnchorSearch:
    """What finds the anchors of all readers in an input as it comes. Made when the first large one does."""
    from kvmwhy.ingest.anchor_search import AnchorSearch
    from kvmwhy.ingest.encoding import ESCAPED

    return AnchorSearch((anchor for name in _declaring() for anchor in _anchors(name)), ESCAPED)


def _declaring() -> list[str]:
    return [*(reader.declares for reader in READERS), _OWN]

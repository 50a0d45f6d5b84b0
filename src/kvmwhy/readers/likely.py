"""Whether a text can hold a failure at all: a test that costs a hundredth of reading it.

Logs of VMMs that say ``KVM_RUN`` in each line, traces of guests that are well, and kernels' dumps of registers have
words by which failures are found, and none that make one. A text is worth reading if it has a mark of a reader that
needs nothing else, or one of the others with what its reader wants to see behind it.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from kvmwhy.ingest.marks import ILLUMOS, KERNEL_LOG, TRACE, WORDS
from kvmwhy.ingest.multi_search import Finder, finder
from kvmwhy.readers.anchors.not_kvm import ANCHORS as OTHER_HYPERVISORS
from kvmwhy.readers.anchors.setup_messages import ANCHORS as SET_UPS
from kvmwhy.readers.anchors.symptom import ANCHORS as SYMPTOMS
from kvmwhy.readers.anchors.vmm_messages import ANCHORS as VMM_LINE
from kvmwhy.readers.qemu.banner import ERRNO
from kvmwhy.readers.qemu.log import MARKS
from kvmwhy.readers.trace.text_prefilter import HOT

_LINE: Final = 4096  # bytes: further apart, two words are not of one failure
_ANYWHERE: Final = 1 << 62


class _Pair(NamedTuple):
    """``marks`` make a failure with one of ``words`` at most ``reach`` bytes behind them."""

    marks: tuple[str, ...]
    words: tuple[str, ...]
    reach: int = _LINE


_CALLS: Final = (  # of the ioctls KVM_RUN and KVM_CREATE_VM, which are failures with an error
    "KVM_RUN", "vcpu run", "o run v", "o run the v", "VcpuRun(", "vcpu hit unknown", "KVM_CREATE_VM",
    "o create VM", "o initialize KVM", "o initialize kvm", "reating the KVM object", "reating the Kvm object",
    "CreateVm(", "kvm_run", "cpu run", "CPU run", "cpu.run", "cpu_run", "VcpuRun", "RunVcpu", "run vcpu",
    "run vCPU", "run VCPU", "run the v", "run VM", "run vm", "run the VM", "run guest", "run the guest", "unning vcpu",
    "unning vCPU", "unning VCPU", "vcpu hit",
)  # fmt: skip
# Words for a failed KVM_RUN that need no error behind them.
_RUN_FAILED: Final = (
    "KVM_RUN failed", "KVM_RUN ioctl failed", "VCPU error", "cpu run failed", "cpu_run failed", "CPU run failed",
    "CPU_run failed", "cpu run error", "CPU run error", "ailed to run v", "ailed to run V", "ailed to run the v",
    "ailed to run the V",
)  # fmt: skip
_ERRORS: Final = ("os error ", "rror(", "errno", "EBUSY", "resource busy", "error 16", *ERRNO)
_SCHEMA: Final = '"schema"'
# Marks that are told by what follows at once: a kernel writes EFER otherwise than QEMU, and many a VMM says "KVM:".
_EFER: Final = "EFER="
_KVM: Final = "KVM:"
_OF_QEMU: Final = (b"entry", b"unknown", b"exception")

_PAIRED: Final = {*_CALLS, *_ERRORS, *TRACE, "rror(16)", "suberror", "KVM_CREATE_", "KVM: create", _EFER, _KVM}
_ALONE: Final = tuple(
    {
        *MARKS,
        *_RUN_FAILED,
        *({*VMM_LINE, *KERNEL_LOG, *ILLUMOS, *WORDS, *SET_UPS, *OTHER_HYPERVISORS, *SYMPTOMS} - _PAIRED),
    }
)
_PAIRS: Final = (
    _Pair(_CALLS, _ERRORS),
    _Pair(("nternal error",), ("suberror",)),
    _Pair(TRACE, tuple(word for word in HOT if not any(mark in word for mark in _ALONE))),
    _Pair((_SCHEMA,), ('"kind"',), _ANYWHERE),
)


@cache
def _search() -> tuple[Finder, list[tuple[_Pair | None, bool]]]:
    """What finds all of them; for each, whose it is, and whether it is a mark. The longer is found before its part."""
    roles: dict[str, tuple[_Pair | None, bool]] = dict.fromkeys((*_ALONE, _EFER, _KVM), (None, True))
    for pair in _PAIRS:
        roles |= dict.fromkeys(pair.words, (pair, False)) | dict.fromkeys(pair.marks, (pair, True))
    texts = sorted(roles, key=lambda text: (-len(text), text))
    return finder([text.encode() for text in texts]), [roles[text] for text in texts]


def may_tell(text: bytes) -> bool:
    """Whether a reader may find a failure; where this says no, none does."""
    find, roles = _search()
    seen: dict[int, int] = {}
    for which, at, end in find(text):
        pair, is_mark = roles[which]
        if pair is None:
            follows = text[end : end + 64].lstrip()
            word = text[at:end]
            if word == b"EFER=":
                if not follows.startswith(b"0x"):
                    return True
            elif word != b"KVM:" or follows.startswith(_OF_QEMU):
                return True
        elif is_mark:
            seen[id(pair)] = at
        elif at - seen.get(id(pair), -_ANYWHERE) <= pair.reach:
            return True
    return False

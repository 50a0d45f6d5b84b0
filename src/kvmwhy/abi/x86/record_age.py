"""Which kernels can have written a record: its form dates them where their name is not shown.

Sources, all in arch/x86/kvm: for suberror 1 handle_emulation_failure and prepare_emulation_failure_exit in x86.c (bytes
since 5.14, exit words since e615e355894e in 5.16); for suberror 2 handle_exception_nmi in vmx.c (the CPU's number since
1aa561b1a4c0 in 5.9); for suberror 3 vmx_handle_exit (5.9) and kvm_prepare_event_vectoring_exit (6.14); for suberror 4
7396d337cfad (5.4) and 1aa561b1a4c0; for VMEXIT_INVALID d7507a94a072 (7.0: 64-bit exit codes). A distribution's kernel
may have any of them earlier.
"""

from __future__ import annotations

from msgspec import Struct

from kvmwhy.abi.x86.vmx import EPT_MISCONFIG

Version = tuple[int, int]


class Age(Struct, frozen=True):
    """The oldest and the newest mainline release that writes such a record; ``None`` where it is open."""

    oldest: Version | None = None
    newest: Version | None = None


OPEN = Age()


def age_of(suberror: int | None, data: tuple[int, ...], ndata: int | None) -> Age:
    """Judge the words of an internal error by their number. ``ndata`` is ``None`` where the record is cut."""
    if ndata is None:
        return _cut(suberror, data)
    match suberror:
        case 1:
            return _emulation(data, ndata)
        case 2:
            return Age(None, (5, 8)) if ndata in {2, 3} else Age((5, 9)) if ndata == 4 else OPEN
        case 3:
            return _delivery(data, ndata)
        case 4:
            return Age((5, 4), (5, 8)) if ndata == 1 else Age((5, 9)) if ndata == 2 else Age((5, 4))
    return OPEN


def _emulation(data: tuple[int, ...], ndata: int) -> Age:
    match ndata:
        case 0:  # a few producers give no words in any release: a failed task switch, nested state without its pages
            return Age(None, (5, 15))
        case 2:
            return Age((5, 13), (5, 15))
        case 3:
            return Age((5, 14), (5, 15))
        case 6 | 7 | 8 | 9 | 10 | 11 | 12:
            return Age((5, 16)) if data and data[0] in {0, 1} else OPEN
    return OPEN


def _delivery(data: tuple[int, ...], ndata: int) -> Age:
    if len(data) < 2:
        return OPEN
    misconfigured = data[1] & 0xFFFF == EPT_MISCONFIG
    match ndata:
        case 2:
            return Age(None, (4, 15))
        case 3:
            return Age(None, (5, 8))
        case 4:
            return Age(None, (5, 8)) if misconfigured else Age((5, 9), (6, 13))
        case 5:
            return Age((5, 9)) if misconfigured else Age((6, 14))
    return OPEN


def _cut(suberror: int | None, data: tuple[int, ...]) -> Age:
    """Of a record whose end is missing only the beginning counts: that there are words at all."""
    if suberror == 1 and len(data) > 3 and data[0] in {0, 1}:
        return Age((5, 16))
    return Age((5, 4)) if suberror == 4 and data else OPEN

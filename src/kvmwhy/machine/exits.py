"""Every KVM_EXIT_* as a typed value, read from the ``kvm_run`` page.

A class is named for its exit, and its fields for the payload's, in the order of ``struct kvm_run``.
Exits of other architectures, and numbers that no release up to 7.3 knows, are ``Other``, which keeps
all 256 bytes of the payload.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from typing import ClassVar, Final

import msgspec

from kvmwhy.abi.cstruct import Value
from kvmwhy.abi.internal_error import MAX_NDATA, Reading, decode_emulation
from kvmwhy.abi.kvm_run import EXITS, PAGE_SIZE, UNION, decode_page, exit_name

Page = bytes | bytearray | mmap.mmap  # the vCPU mapping, or a copy of it

EXIT_REASON: Final = struct.Struct("<8xI")


class Exit(msgspec.Struct, frozen=True, gc=False):
    """Why KVM_RUN returned. ``number`` is the class's exit reason; ``exit_reason`` is the value's own."""

    number: ClassVar[int] = -1

    @property
    def exit_reason(self) -> int:
        return self.number

    @property
    def name(self) -> str:
        """``KVM_EXIT_…``, or the number if nobody knows it."""
        return exit_name(self.exit_reason)


class Unknown(Exit, frozen=True, gc=False):
    """An exit that no handler took; its number is the hardware's."""

    number: ClassVar[int] = 0
    hardware_exit_reason: int


class ExceptionExit(Exit, frozen=True, gc=False):
    """An intercepted exception that no handler took."""

    number: ClassVar[int] = 1
    exception: int  # the vector
    error_code: int


class Io(Exit, frozen=True, gc=False):
    """IN, OUT, INS or OUTS. ``data`` is what was written, ``size * count`` bytes; empty for a read."""

    number: ClassVar[int] = 2
    direction: int  # 0 in: complete() it; 1 out
    size: int  # 1, 2 or 4 bytes
    port: int
    count: int  # above 1 for the string instructions
    data_offset: int  # from the start of the page
    data: bytes

    @property
    def is_write(self) -> bool:
        return self.direction == 1


class Hypercall(Exit, frozen=True, gc=False):
    """VMCALL or VMMCALL, where KVM_CAP_EXIT_HYPERCALL asks for it; complete() it with 8 bytes."""

    number: ClassVar[int] = 3
    nr: int
    args: tuple[int, ...]
    ret: int
    longmode: int


class Debug(Exit, frozen=True, gc=False):
    """A debug exception under KVM_SET_GUEST_DEBUG."""

    number: ClassVar[int] = 4
    exception: int
    pc: int
    dr6: int
    dr7: int


class Hlt(Exit, frozen=True, gc=False):
    """HLT. RIP is already behind it."""

    number: ClassVar[int] = 5


class Mmio(Exit, frozen=True, gc=False):
    """An access to a GPA without memory. ``data`` is what was written; empty for a read."""

    number: ClassVar[int] = 6
    phys_addr: int
    data: bytes
    len: int  # 1 to 8 bytes; a wider access comes in pieces
    is_write: bool  # a read: complete() it


class IrqWindowOpen(Exit, frozen=True, gc=False):
    number: ClassVar[int] = 7


class Shutdown(Exit, frozen=True, gc=False):
    """A triple fault."""

    number: ClassVar[int] = 8


class FailEntry(Exit, frozen=True, gc=False):
    """The hardware refused to enter the guest."""

    number: ClassVar[int] = 9
    hardware_entry_failure_reason: int
    cpu: int


class Intr(Exit, frozen=True, gc=False):
    """kick() ended KVM_RUN; the guest can go on."""

    number: ClassVar[int] = 10


class TimedOut(Exit, frozen=True, gc=False):
    """run()'s own: the guest did not exit within ``seconds``; it can go on."""

    number: ClassVar[int] = 10
    seconds: float


class SetTpr(Exit, frozen=True, gc=False):
    number: ClassVar[int] = 11


class TprAccess(Exit, frozen=True, gc=False):
    number: ClassVar[int] = 12
    rip: int
    is_write: int


class Nmi(Exit, frozen=True, gc=False):
    number: ClassVar[int] = 16


class InternalError(Exit, frozen=True, gc=False):
    """KVM gave up. ``data`` are all 16 entries; those from ``ndata`` on may be an earlier exit's."""

    number: ClassVar[int] = 17
    suberror: int
    ndata: int
    data: tuple[int, ...]

    @property
    def words(self) -> tuple[int, ...]:
        """The entries that count."""
        return self.data[: min(self.ndata, MAX_NDATA)]

    @property
    def emulation(self) -> Reading | None:
        """Suberror 1, read by its shape; None for another."""
        return decode_emulation(self.words, self.ndata) if self.suberror == 1 else None


class SystemEvent(Exit, frozen=True, gc=False):
    number: ClassVar[int] = 24
    type: int
    ndata: int
    data: tuple[int, ...]


class IoapicEoi(Exit, frozen=True, gc=False):
    number: ClassVar[int] = 26
    vector: int


class Hyperv(Exit, frozen=True, gc=False):
    """``u`` is the union; ``abi.kvm_run.VARIANTS`` names its fields by ``type``."""

    number: ClassVar[int] = 27
    type: int
    u: tuple[int, ...]


class ArmNisv(Exit, frozen=True, gc=False):
    """An access outside RAM that the CPU does not describe; only where KVM_CAP_ARM_NISV_TO_USER is enabled."""

    number: ClassVar[int] = 28
    esr_iss: int  # of ESR_EL2, only WnR, CM and the fault status
    fault_ipa: int


class ArmSea(Exit, frozen=True, gc=False):
    """An external abort of the host's memory or bus; bit 0 of ``flags``: ``gpa`` is valid."""

    number: ClassVar[int] = 41
    flags: int
    esr: int
    gva: int
    gpa: int


class ArmLdst64b(Exit, frozen=True, gc=False):
    """LD64B or ST64B outside RAM."""

    number: ClassVar[int] = 42
    esr_iss: int
    fault_ipa: int


class _Msr(Exit, frozen=True, gc=False):
    """``reason``: 1 invalid, 2 unknown, 4 filtered. refuse() gives the guest #GP."""

    error: int
    reason: int
    index: int
    data: int


class X86Rdmsr(_Msr, frozen=True, gc=False):
    """RDMSR that KVM does not do itself; complete() it with 8 bytes, or refuse() it."""

    number: ClassVar[int] = 29


class X86Wrmsr(_Msr, frozen=True, gc=False):
    """WRMSR that KVM does not do itself."""

    number: ClassVar[int] = 30


class DirtyRingFull(Exit, frozen=True, gc=False):
    number: ClassVar[int] = 31


class ApResetHold(Exit, frozen=True, gc=False):
    number: ClassVar[int] = 32


class X86BusLock(Exit, frozen=True, gc=False):
    number: ClassVar[int] = 33


class Xen(Exit, frozen=True, gc=False):
    number: ClassVar[int] = 34
    type: int
    longmode: int
    cpl: int
    input: int
    result: int
    params: tuple[int, ...]


class Notify(Exit, frozen=True, gc=False):
    """No event window for too long; bit 0 of ``flags``: the vCPU's context is lost."""

    number: ClassVar[int] = 37
    flags: int


class MemoryFault(Exit, frozen=True, gc=False):
    """KVM_RUN failed with EFAULT or EHWPOISON, and this is where."""

    number: ClassVar[int] = 39
    flags: int  # bit 3: private
    gpa: int
    size: int


class Tdx(Exit, frozen=True, gc=False):
    """``abi.kvm_run.VARIANTS`` names what is in ``data`` by ``nr``."""

    number: ClassVar[int] = 40
    flags: int
    nr: int
    ret: int
    data: tuple[int, ...]


class SnpReqCerts(Exit, frozen=True, gc=False):
    number: ClassVar[int] = 43
    gpa: int
    npages: int
    ret: int


class Other(Exit, frozen=True):
    """Any exit that has no class here. ``raw`` is the whole union; ``payload`` what its layout says."""

    reason: int
    payload: dict[str, Value]
    raw: bytes

    @property
    def exit_reason(self) -> int:
        return self.reason


# The classes whose fields are the payload's one to one, all of them single numbers.
_PLAIN: Final[tuple[type[Exit], ...]] = (
    *(Unknown, ExceptionExit, Debug, Hlt, IrqWindowOpen, Shutdown, FailEntry, Intr, SetTpr, TprAccess, Nmi),
    *(IoapicEoi, X86Rdmsr, X86Wrmsr, DirtyRingFull, ApResetHold, X86BusLock, Notify, MemoryFault, SnpReqCerts),
    *(ArmNisv, ArmSea, ArmLdst64b),
)


def _payload(number: int) -> struct.Struct:
    """One value per number of the payload, in order; u8 arrays as bytes."""
    code, at = f"<{UNION}x", UNION
    for f in EXITS[number].fields:
        kind = f"{f.length}s" if f.size == 1 and f.length > 1 else f"{f.length}{f.code.format[-1]}"
        code += f"{f.offset - at}x{kind}"
        at = f.offset + f.size * f.length
    return struct.Struct(code)


# The commonest exit at one go, its number included; any page is long enough to be read like this.
_MMIO = struct.Struct(f"<8xI20x{_payload(Mmio.number).format[len('<32x') :]}").unpack_from
_IO = _payload(Io.number).unpack_from
_INTERNAL = struct.Struct(f"<{UNION}xII").unpack_from
_INTERNAL_DATA = struct.Struct(f"<{UNION + 8}x{MAX_NDATA}Q").unpack_from
_HYPERCALL = _payload(Hypercall.number).unpack_from
_SYSTEM_EVENT = _payload(SystemEvent.number).unpack_from
_HYPERV = _payload(Hyperv.number).unpack_from
_XEN = _payload(Xen.number).unpack_from
_TDX = _payload(Tdx.number).unpack_from


def _io(page: Page) -> Io:
    direction, size, port, count, offset = _IO(page)
    # A page without the mapping behind it (a test's, a file's) has no PIO data.
    data = bytes(page[offset : offset + size * count]) if direction == 1 else b""
    return Io(direction, size, port, count, offset, data)


def _internal(page: Page) -> InternalError:
    suberror, ndata = _INTERNAL(page)
    return InternalError(suberror, ndata, _INTERNAL_DATA(page))


def _hypercall(page: Page) -> Hypercall:
    nr, *args, ret, longmode = _HYPERCALL(page)
    return Hypercall(nr, tuple(args), ret, longmode)


def _system_event(page: Page) -> SystemEvent:
    kind, ndata, *data = _SYSTEM_EVENT(page)
    return SystemEvent(kind, ndata, tuple(data))


def _hyperv(page: Page) -> Hyperv:
    kind, *u = _HYPERV(page)
    return Hyperv(kind, tuple(u))


def _xen(page: Page) -> Xen:
    kind, longmode, cpl, input_, result, *params = _XEN(page)
    return Xen(kind, longmode, cpl, input_, result, tuple(params))


def _tdx(page: Page) -> Tdx:
    flags, nr, ret, *data = _TDX(page)
    return Tdx(flags, nr, ret, tuple(data))


def _plain(kind: type[Exit]) -> Callable[[Page], Exit]:
    unpack = _payload(kind.number).unpack_from
    if not EXITS[kind.number].fields:
        only = kind()
        return lambda _: only
    return lambda page: kind(*unpack(page))


def _other(page: Page) -> Other:
    run = decode_page(bytes(page[:PAGE_SIZE]))
    return Other(run.exit_reason, run.payload, run.raw)


_DECODERS: Final[dict[int, Callable[[Page], Exit]]] = {
    **{kind.number: _plain(kind) for kind in _PLAIN},
    Io.number: _io,
    InternalError.number: _internal,
    Hypercall.number: _hypercall,
    SystemEvent.number: _system_event,
    Hyperv.number: _hyperv,
    Xen.number: _xen,
    Tdx.number: _tdx,
}


_decoder = _DECODERS.get


def decode_exit(page: Page) -> Exit:
    """The exit that a ``kvm_run`` page holds. Raises ShortPageError (or struct.error) if the union is cut."""
    reason, phys_addr, data, length, is_write = _MMIO(page)
    if reason == Mmio.number:
        return Mmio(phys_addr, data[:length] if is_write else b"", length, is_write != 0)
    return _decoder(reason, _other)(page)

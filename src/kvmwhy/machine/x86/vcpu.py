"""The state of an x86 vCPU: registers, segments, MSRs, CPUID, FPU."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final, TypeVar

from kvmwhy.abi import ioctl as abi
from kvmwhy.abi.ioctl import Ioctl
from kvmwhy.machine.errors import RefusedStateError, RegisterError
from kvmwhy.machine.linux import ioctl
from kvmwhy.machine.vcpu import KvmVcpu
from kvmwhy.machine.x86 import state, sync_regs

_T = TypeVar("_T")
# Looked up once: an enum's member costs a tenth of a microsecond.
_SET_REGS, _SET_SREGS, _SET_VCPU_EVENTS = Ioctl.KVM_SET_REGS, Ioctl.KVM_SET_SREGS, Ioctl.KVM_SET_VCPU_EVENTS
_CPUID_ENTRIES: Final = 256  # KVM_MAX_CPUID_ENTRIES


class X86Vcpu(KvmVcpu):
    """See ``protocol.Vcpu``. Made by ``KvmMachine.create_vcpu``."""

    __slots__ = ("_accepted", "_packed", "_syncs")

    def __init__(self, number: int, fd: int, mapping_size: int, *, syncs: bool = False) -> None:
        self._syncs = syncs  # KVM_RUN can load registers from the page
        self._accepted: tuple[tuple[object, object, object], bytes] | None = None  # the state that KVM took last
        self._packed: dict[Ioctl, tuple[object, bytearray]] = {}  # what was set last, and its bytes
        super().__init__(number, fd, mapping_size)

    def get_regs(self) -> state.Regs:
        return state.regs_from_bytes(self._get(Ioctl.KVM_GET_REGS, abi.REGS))

    def set_regs(self, regs: state.Regs) -> None:
        self._put(_SET_REGS, regs, state.regs_to_bytes)

    def get_sregs(self) -> state.Sregs:
        return state.sregs_from_bytes(self._get(Ioctl.KVM_GET_SREGS, abi.SREGS))

    def set_sregs(self, sregs: state.Sregs) -> None:
        self._put(_SET_SREGS, sregs, state.sregs_to_bytes)

    def get_events(self) -> state.Events:
        return state.events_from_bytes(self._get(Ioctl.KVM_GET_VCPU_EVENTS, abi.VCPU_EVENTS))

    def set_events(self, events: state.Events) -> None:
        self._put(_SET_VCPU_EVENTS, events, state.events_to_bytes)

    def restore(self, regs: state.Regs, sregs: state.Sregs, events: state.Events) -> None:
        """The first time by ioctls, which say what is wrong; the same values again go with KVM_RUN itself."""
        self.settle()
        last = self._accepted
        if last is not None and last[0][0] is regs and last[0][1] is sregs and last[0][2] is events:
            self._page[sync_regs.START : sync_regs.END] = last[1]
            self._page[sync_regs.DIRTY] = sync_regs.ALL
            return
        self.set_regs(regs)
        self.set_sregs(sregs)
        self.set_events(events)
        if self._syncs:
            whole = state.regs_to_bytes(regs) + state.sregs_to_bytes(sregs) + state.events_to_bytes(events)
            self._accepted = (regs, sregs, events), bytes(whole)

    def _flush(self) -> None:
        try:
            if not self._page[sync_regs.DIRTY]:
                return
        except ValueError:  # mmap's word for a page that was closed
            self._check_open()
            raise
        self._page[sync_regs.DIRTY] = 0
        for request, data in sync_regs.parts(self._page[sync_regs.START : sync_regs.END]):
            self._set(request, data)

    def get_debugregs(self) -> state.DebugRegs:
        return state.debugregs_from_bytes(self._get(Ioctl.KVM_GET_DEBUGREGS, abi.DEBUGREGS))

    def set_debugregs(self, regs: state.DebugRegs) -> None:
        self._put(Ioctl.KVM_SET_DEBUGREGS, regs, state.debugregs_to_bytes)

    def get_xcrs(self) -> dict[int, int]:
        return state.xcrs_from_bytes(self._get(Ioctl.KVM_GET_XCRS, abi.XCRS))

    def set_xcrs(self, xcrs: Mapping[int, int]) -> None:
        self._set(Ioctl.KVM_SET_XCRS, bytearray(state.xcrs_to_bytes(xcrs)))

    def get_msrs(self, indices: Iterable[int]) -> dict[int, int]:
        wanted = dict.fromkeys(indices, 0)
        table = state.msrs_to_bytes(wanted)
        self._whole_table(Ioctl.KVM_GET_MSRS, table, tuple(wanted))
        return state.msrs_from_bytes(table)

    def set_msrs(self, msrs: Mapping[int, int]) -> None:
        self._whole_table(Ioctl.KVM_SET_MSRS, state.msrs_to_bytes(msrs), tuple(msrs))

    def _whole_table(self, request: Ioctl, table: bytearray, indices: tuple[int, ...]) -> None:
        """KVM goes through the table until it meets an MSR that it refuses, and says how far it came."""
        done = self._set(request, table)
        if done < len(indices):
            fact = f"{request.name} did {done} of {len(indices)} MSRs: {indices[done]:#x} was refused"
            raise RefusedStateError(
                request.name, errno.EINVAL, "this vCPU has no such MSR, or not with this value", fact
            )

    def get_cpuid(self) -> tuple[state.CpuidEntry, ...]:
        size = abi.CPUID2.size + _CPUID_ENTRIES * abi.CPUID_ENTRY2.size
        table = bytearray(size)
        abi.CPUID2.whole.pack_into(table, 0, _CPUID_ENTRIES)
        self._set(Ioctl.KVM_GET_CPUID2, table)
        return state.cpuid_from_bytes(table)

    def set_cpuid(self, entries: Iterable[state.CpuidEntry]) -> None:
        entries = tuple(entries)
        self._set(Ioctl.KVM_SET_CPUID2, bytearray(_cpuid_bytes(entries)))

    def get_fpu(self) -> bytes:
        return self._get(Ioctl.KVM_GET_FPU, abi.FPU)

    def set_fpu(self, fpu: bytes) -> None:
        self._set(Ioctl.KVM_SET_FPU, _exactly(fpu, abi.FPU))

    def get_xsave(self) -> bytes:
        return self._get(Ioctl.KVM_GET_XSAVE, abi.XSAVE)

    def set_xsave(self, area: bytes) -> None:
        self._set(Ioctl.KVM_SET_XSAVE, _exactly(area, abi.XSAVE))

    def interrupt(self, vector: int) -> None:
        if not 0 <= vector <= 255:
            raise RegisterError("interrupt vector", vector, 8)
        self._set(Ioctl.KVM_INTERRUPT, bytearray(abi.INTERRUPT.whole.pack(vector)))

    def nmi(self) -> None:
        self._set(Ioctl.KVM_NMI, bytearray())

    def _put(self, request: Ioctl, value: _T, pack: Callable[[_T], bytes]) -> None:
        """Set ``value``; a value is frozen, so that the same one again has the same bytes."""
        self._flush()
        last = self._packed.get(request)
        if last is None or last[0] is not value:
            last = self._packed[request] = (value, bytearray(pack(value)))
        try:
            ioctl(self._fd, request, last[1])
        except (OSError, ValueError) as error:
            self._refused(request, error)


@lru_cache(maxsize=8)
def _cpuid_bytes(entries: tuple[state.CpuidEntry, ...]) -> bytes:
    return bytes(state.cpuid_to_bytes(entries))


def _exactly(data: bytes, structure: abi.Structure) -> bytearray:
    if len(data) != structure.size:
        raise RegisterError(f"{structure.name} of {len(data)} bytes", None, 0)
    return bytearray(data)

"""Ask the KVM of this host, form by form, in one VM.

What the CPU has is asked as it comes: the instruction runs, its operand is where there is no memory, KVM has to
emulate. What the CPU lacks would be #UD before KVM sees it; a stale translation (see ``guest``) gets it to KVM all the
same, unless the CPU hands KVM the bytes that it executed itself, as AMD's do. ``calibrate`` finds that out.
"""

from __future__ import annotations

import errno
from types import TracebackType
from typing import Final, NamedTuple, Self

from kvmwhy.emulator.measured import Measured
from kvmwhy.machine.errors import IoctlError
from kvmwhy.machine.exits import Exit, Hlt, InternalError, Io, Mmio, TimedOut
from kvmwhy.machine.kvm import KvmMachine
from kvmwhy.machine.protocol import Machine, Vcpu
from kvmwhy.machine.x86.state import DebugRegs, Events, Sregs, replace
from kvmwhy.probe.classify import ENDLESS, judge
from kvmwhy.probe.compare import Left, differs
from kvmwhy.probe.encodings import Form, Mode
from kvmwhy.probe.guest import DATA, HOLE_SIZE, OTHER, RAM_SIZE, STACK, Technique, Template, field, xsave_area
from kvmwhy.probe.sweep_format import MAX_EXITS, TIMEOUT_MS, Plan, Probe, Raw, plan

_NOTHING: Final = Events()
_NO_BREAKPOINTS: Final = DebugRegs()
_XCR0: Final = {0: 7}
_UD: Final = 6
_PAGE: Final = 0x1000
_MAX_ACCESSES: Final = 16
_X87: Final = Form("long64", bytes.fromhex("d9 03"), "fld dword ptr [rbx]")  # no KVM has ever had a handler
_LOAD: Final[dict[Mode, bytes]] = {
    "real16": b"\x8b\x07",
    "prot16": b"\x8b\x07",
    "prot32": b"\x8b\x03",
    "long64": b"\x8b\x03",
}


class _Ran(NamedTuple):
    reason: int
    suberror: int
    ndata: int
    fetched: int
    accesses: str
    left: Left | None


class Prober:
    """One VM and one vCPU, used again for each probe. A machine that fails a probe is made anew.

    Raises what ``KvmMachine`` raises where there is no KVM.
    """

    def __init__(self, make: type[KvmMachine] = KvmMachine, *, timeout: float = TIMEOUT_MS / 1000) -> None:
        self._make = make
        self._timeout = timeout
        self._start()
        self.stale: bool = self.calibrate()
        self._runs: dict[Mode, bool] = {}

    def _start(self) -> None:
        self._machine: Machine = self._make()
        self._machine.add_memory(0, RAM_SIZE)
        self._vcpu: Vcpu = self._machine.create_vcpu()
        self._vcpu.set_cpuid(self._machine.supported_cpuid())
        self._apic_base = self._vcpu.get_sregs().apic_base
        self._sregs: dict[int, Sregs] = {}

    def close(self) -> None:
        self._machine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def calibrate(self) -> bool:
        """Whether a stale translation leads this KVM to other bytes than the CPU's."""
        return judge(_X87, self.raw(Probe(_X87, "stale"))).kind == "fails"

    def runs(self, mode: Mode) -> bool:
        """Whether a plain load in this mode comes to KVM at all: without hardware help not every mode does."""
        if mode not in self._runs:
            load = Form(mode, _LOAD[mode], "a plain load")
            self._runs[mode] = judge(load, self.raw(Probe(load, "plain"))).kind == "emulated"
        return self._runs[mode]

    def ask(self, form: Form) -> tuple[Measured | None, Technique]:
        """What this KVM makes of a form, and how that was found out; None: there is no way to ask here."""
        if not self.runs(form.mode):
            return None, "plain"
        if form.memory:
            plain = judge(form, self.raw(Probe(form, "plain")))
            # Nothing that KVM did: the CPU refused it, or carried it out without an access.
            if plain.kind not in {"exception", "emulated"} or plain.accesses:
                return plain, "plain"
        if form.mode != "real16" and self.stale:
            return judge(form, self.raw(Probe(form, "stale"))), "stale"
        return None, "plain"

    # -- one probe ---------------------------------------------------------------------------------

    def raw(self, probe: Probe) -> Raw:
        how = plan(probe)
        code = probe.form.code
        asked = self._run(how.asked, code, how.data)
        native_reason = native_at = 0
        first = second = -1
        if asked.left is not None:
            native = self._run(how.native, code, how.data)
            native_reason = native.reason
            if native.left is not None:
                native_at = native.left.at
                first = differs(asked.left, native.left)
                second = self._again(how, code)
        return Raw(
            reason=asked.reason,
            at=asked.left.at if asked.left else 0,
            suberror=asked.suberror,
            ndata=asked.ndata,
            fetched=asked.fetched,
            accesses=asked.accesses,
            native_reason=native_reason,
            native_at=native_at,
            differs=first,
            differs_other=second,
        )

    def _again(self, how: Plan, code: bytes) -> int:
        """The comparison, with the other value of the operand."""
        if how.other is None:
            return -1
        ours, native = self._run(how.asked, code, how.other).left, self._run(how.native, code, how.other).left
        return -1 if ours is None or native is None else differs(ours, native)

    def _run(self, guest: Template, code: bytes, value: bytes) -> _Ran:
        device = bytearray(HOLE_SIZE)
        machine, vcpu = self._machine, self._vcpu
        try:
            vcpu.settle()
            machine.write(0, guest.ram)
            machine.write(guest.code_at, code)
            if guest.data_at is None:
                device[field(guest.side) : field(guest.side) + len(value)] = value
            else:
                machine.write(guest.data_at, value)
            sregs = self._sregs_of(guest)
            vcpu.set_sregs(sregs)
            vcpu.set_events(_NOTHING)
            vcpu.set_xcrs(_XCR0)
            vcpu.set_xsave(xsave_area())
            vcpu.set_debugregs(_NO_BREAKPOINTS)
            vcpu.set_regs(guest.regs)
        except IoctlError:
            return _Ran(-errno.EPERM, 0, 0, 0, "", None)
        try:
            exit_, accesses, count = self._answer(guest, device)
        except IoctlError as error:
            self.close()
            self._start()
            return _Ran(-(error.errno or errno.EIO), 0, 0, 0, "", None)
        return self._ended(guest, sregs, device, exit_, accesses, endless=count >= MAX_EXITS)

    def _sregs_of(self, guest: Template) -> Sregs:
        known = self._sregs.get(id(guest))
        if known is None:
            known = self._sregs[id(guest)] = replace(guest.sregs, apic_base=self._apic_base)
        return known

    def _answer(self, guest: Template, device: bytearray) -> tuple[Exit, str, int]:
        """Run it, being its device, until it ends."""
        vcpu, seen, count = self._vcpu, [], 0
        exit_ = vcpu.run(self._timeout)
        while isinstance(exit_, (Mmio, Io)):
            count += 1
            if isinstance(exit_, Io):
                seen.append(f"{'o' if exit_.is_write else 'i'}{exit_.size}")
                if not exit_.is_write:
                    vcpu.complete(b"\x5a" * (exit_.size * exit_.count))
            else:
                seen.append(f"{'w' if exit_.is_write else 'r'}{exit_.len}")
                at = exit_.phys_addr - guest.hole
                inside = 0 <= at <= HOLE_SIZE - exit_.len
                if exit_.is_write and inside:
                    device[at : at + exit_.len] = exit_.data
                elif not exit_.is_write:
                    vcpu.complete(bytes(device[at : at + exit_.len]) if inside else bytes(exit_.len))
            if count >= MAX_EXITS:
                break
            exit_ = vcpu.run(self._timeout)
        return exit_, "".join(seen[:_MAX_ACCESSES]), count

    def _ended(
        self, guest: Template, start: Sregs, device: bytearray, exit_: Exit, accesses: str, *, endless: bool
    ) -> _Ran:
        if endless:
            return _Ran(ENDLESS, 0, 0, 0, accesses, None)
        match exit_:
            case TimedOut():
                return _Ran(-errno.EINTR, 0, 0, 0, accesses, None)
            case InternalError(suberror=suberror, ndata=ndata, data=data):
                fetched = data[1] & 0xFF if ndata >= 3 and data[0] & 1 else 0
                return _Ran(exit_.exit_reason, suberror, ndata, fetched, accesses, None)
            case Hlt():
                vcpu, machine = self._vcpu, self._machine
                regs, sregs = vcpu.get_regs(), vcpu.get_sregs()
                operand = bytes(device) if guest.data_at is None else machine.read(DATA, HOLE_SIZE)
                memory = machine.read(STACK, _PAGE) + machine.read(OTHER, _PAGE)
                linear = regs.rip + sregs.cs.base
                left = Left(linear, regs, sregs, start, vcpu.get_xsave(), operand, memory)
                return _Ran(exit_.exit_reason, 0, 0, 0, accesses, left)
        return _Ran(exit_.exit_reason, 0, 0, 0, accesses, None)

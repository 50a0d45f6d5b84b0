"""Whether the vCPU still is as a reset left it: did the guest run at all?

What a register dump shows has three owners, and each part is judged by itself before they are judged together:

* KVM's memory holds the general registers, for every guest that is not encrypted;
* the VMCS or VMCB holds RIP, RSP, RFLAGS, the segments and the tables: a VMREAD that failed, and the save area
  of an encrypted guest, read as zero;
* the control registers and EFER are tracked: KVM knows them even of an encrypted guest.

Reset values: SDM vol. 3A, table 10-1 (power-up, RESET, INIT), APM vol. 2, 14.1. KVM's own: kvm_vcpu_reset and
vmx_vcpu_reset in arch/x86/kvm.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from kvmwhy.record import Cpu, Segment

_CR0_CD_NW: Final = 0x6000_0000  # INIT leaves them as they were
_CR0_PG: Final = 1 << 31
_CR0_PE: Final = 1 << 0
_RFLAGS_1: Final = 1 << 1  # always set in a CPU
_RFLAGS_RF: Final = 1 << 16  # set and cleared by the CPU around faults: no difference
_RESET_VECTOR: Final = 0xFFF0
_SMI_ENTRY: Final = 0x8000
_VM86_RIGHTS: Final = 0xF300  # data, writable, accessed, DPL 3: what virtual-8086 mode wants of every segment
_PRESENT: Final = 0x8000
_SEABIOS_ENTRY: Final = 0xE05B  # where the far jump at a PC's reset vector leads
_GPRS: Final = ("rax", "rbx", "rcx", "rsi", "rdi", "rbp", "rsp", *(f"r{number}" for number in range(8, 16)))
_CODE_AND_DATA: Final = ("cs", "ss", "ds", "es", "fs", "gs")


class Gprs(StrEnum):
    """The general registers, which KVM keeps in memory."""

    RESET = "reset"  # zero, but for the CPU's signature in EDX
    ZERO = "zero"  # EDX, too
    RUNNING = "running"
    NOT_SHOWN = "not-shown"


class Place(StrEnum):
    """CS and RIP."""

    RESET = "reset"  # f000:fff0 at ffff0000
    OLD_RESET = "old-reset"  # the same at 000f0000: KVM before 3.10, which had no unrestricted guest to rely on
    STARTUP = "startup"  # vv00:0000, as a start-up IPI leaves it
    FIRST = "first"  # firmware that has not reloaded CS, or has just jumped to f000:e05b
    SMI = "smi"  # the first instruction of an SMI handler
    ZERO = "zero"
    IMPOSSIBLE = "impossible"  # beyond the 64 KiB that CS still has, or CS not present
    RUNNING = "running"
    NOT_SHOWN = "not-shown"


class Loaded(StrEnum):
    """RFLAGS, segments and tables, which the VMCS or VMCB holds."""

    RESET = "reset"
    VM86 = "vm86"  # real mode by way of virtual-8086 mode: no unrestricted guest
    ZERO = "zero"
    UNUSABLE = "unusable"  # shown as loaded with nothing: no guest can run so
    RUNNING = "running"
    NOT_SHOWN = "not-shown"


class Tracked(StrEnum):
    """CR0, CR2, CR3, CR4 and EFER."""

    RESET = "reset"
    LEFT = "left"  # CR0 is as after a reset, another is not
    ZERO = "zero"
    RUNNING = "running"
    NOT_SHOWN = "not-shown"


class State(StrEnum):
    """All parts together."""

    RESET = "reset"  # nothing has executed
    STARTUP = "startup"  # an application processor that a start-up IPI just placed: nothing has executed
    HALF_RESET = "half-reset"  # at the start, with control registers that a reset clears
    FIRST = "first"  # the firmware's very first instructions
    SMI_ENTRY = "smi-entry"
    MIXTURE = "mixture"  # parts of two states
    ZERO = "zero"  # no part shows anything: encrypted, or never loaded
    HIDDEN = "hidden"  # what the control block holds reads as zero beside live control registers: encrypted
    UNREAD = "unread"  # RFLAGS without bit 1: the control block was not read, or never run
    IMPOSSIBLE = "impossible"  # shown, and no guest can be in it
    RAN = "ran"
    UNKNOWN = "unknown"


NEVER_RAN: Final = frozenset({State.RESET, State.STARTUP, State.HALF_RESET})
UNSEEN: Final = frozenset({State.ZERO, State.HIDDEN})  # what is shown is no state of a CPU: mode and rules mean nothing


class ResetVerdict(Struct, frozen=True):
    """The state as a whole, then part by part; ``why`` says it in a sentence.

    ``parts`` still have reset values, ``differ`` do not. What was not shown is in neither.
    """

    state: State
    gprs: Gprs
    place: Place
    loaded: Loaded
    tracked: Tracked
    parts: tuple[str, ...]
    differ: tuple[str, ...]
    why: str

    @property
    def pristine(self) -> bool:
        return self.state == State.RESET

    @property
    def never_ran(self) -> bool:
        """The guest has executed nothing since this processor was last reset or placed."""
        return self.state in NEVER_RAN


class _Parts(NamedTuple):
    gprs: Gprs
    place: Place
    loaded: Loaded
    tracked: Tracked


def is_reset_state(cpu: Cpu) -> ResetVerdict:
    """How much of the reset state is left, and what that says about the guest."""
    general = [cpu.registers[name] for name in _GPRS if name in cpu.registers]
    checks = _checks(cpu, general)
    parts = tuple([name for name, same in checks.items() if same])
    differ = tuple([name for name, same in checks.items() if not same])
    gprs = _gprs(cpu, general)
    judged = _Parts(gprs, _place(cpu, gprs), _loaded(cpu), _tracked(cpu))
    state, why = _together(cpu, judged, ", ".join(differ))
    return ResetVerdict(state, *judged, parts, differ, why)


def by_register(cpu: Cpu) -> dict[str, bool]:
    """Of each register that has one value at reset and is shown: whether it still has it.

    RDX is not judged: at reset it names the CPU. DR6 and DR7 are not either, as dumps differ in their fixed bits.
    """
    general = {name: cpu.registers[name] == 0 for name in _GPRS if name in cpu.registers}
    return general | {name: same for name, same in _checks(cpu, []).items() if name in cpu.registers}


def _checks(cpu: Cpu, general: list[int]) -> dict[str, bool]:
    registers = cpu.registers
    out: dict[str, bool] = {}
    if (rip := registers.get("rip")) is not None:
        out["rip"] = rip == _RESET_VECTOR
    if (cs := cpu.segments.get("cs")) is not None:
        out["cs"] = _at_reset(cs) and (cs.base == 0xFFFF_0000 or rip == _RESET_VECTOR)
    if general:
        out["gprs"] = not any(general)
    if (rflags := registers.get("rflags")) is not None:
        out["rflags"] = rflags & ~_RFLAGS_RF == _RFLAGS_1
    if (cr0 := registers.get("cr0")) is not None:
        out["cr0"] = cr0 & ~_CR0_CD_NW == 0x10
    for name in ("cr2", "cr3", "cr4", "efer"):
        if (value := registers.get(name)) is not None:
            out[name] = value == 0
    return out


def _at_reset(cs: Segment) -> bool:
    return cs.selector == 0xF000 and cs.base in {0xFFFF_0000, 0xF_0000}


# -- each part by itself ---------------------------------------------------------------------------


def _gprs(cpu: Cpu, general: list[int]) -> Gprs:
    if len(general) < 3:
        return Gprs.NOT_SHOWN
    if any(general):
        return Gprs.RUNNING
    return Gprs.RESET if cpu.registers.get("rdx") else Gprs.ZERO


def _place(cpu: Cpu, gprs: Gprs) -> Place:
    rip, cs = cpu.registers.get("rip"), cpu.segments.get("cs")
    if rip is None and cs is None:
        return Place.NOT_SHOWN
    if cs is None:
        # No code of a guest is at exactly fff0 with a signature in EDX and nothing else in any register.
        at_reset = rip == _RESET_VECTOR and gprs == Gprs.RESET
        return Place.RESET if at_reset else Place.NOT_SHOWN if rip in {0, None} else Place.RUNNING
    if rip is None:
        return Place.NOT_SHOWN
    if _is_empty(cs):
        return Place.ZERO
    if _at_reset(cs) and not cpu.registers.get("cr0", 0) & _CR0_PE:
        return _place_at_reset_segment(rip, cs, gprs)
    if cs.attributes and not cs.present:
        return Place.IMPOSSIBLE
    flat = cs.base == cs.selector << 4
    if flat and rip == 0 and not cs.selector & 0xFF and cs.selector:
        return Place.STARTUP
    if cpu.smm and rip == _SMI_ENTRY:
        return Place.SMI
    return Place.RUNNING


def _is_empty(segment: Segment) -> bool:
    """Nothing but, at most, the present bit: QEMU prints it of a TDX guest's segments."""
    return not (segment.selector | segment.base | segment.attributes & ~_PRESENT)


def _place_at_reset_segment(rip: int, cs: Segment, gprs: Gprs) -> Place:
    high = cs.base == 0xFFFF_0000
    if rip == _RESET_VECTOR:
        return Place.RESET if high else Place.OLD_RESET
    if rip > 0xFFFF and cs.limit <= 0xFFFF:
        return Place.IMPOSSIBLE
    return Place.FIRST if high or (rip == _SEABIOS_ENTRY and gprs == Gprs.RESET) else Place.RUNNING


def _loaded(cpu: Cpu) -> Loaded:
    segments = [cpu.segments[name] for name in _CODE_AND_DATA if name in cpu.segments]
    rflags = cpu.registers.get("rflags")
    if not segments:
        return Loaded.NOT_SHOWN
    if all(_is_empty(segment) and not segment.limit for segment in segments):
        return Loaded.ZERO
    real = not cpu.registers.get("cr0", _CR0_PE) & _CR0_PE
    if len(segments) == len(_CODE_AND_DATA) and not any(segment.present for segment in segments) and not real:
        return Loaded.UNUSABLE
    if real and is_vm86_segment(cpu.segments.get("cs")):
        return Loaded.VM86
    at_reset = all(segment.selector == segment.base == 0 and segment.limit == 0xFFFF for segment in segments[1:])
    return Loaded.RESET if at_reset and (rflags is None or rflags & ~_RFLAGS_RF == _RFLAGS_1) else Loaded.RUNNING


def is_vm86_segment(segment: Segment | None) -> bool:
    """A real-mode CS with DPL 3: KVM runs real mode as virtual-8086 mode (fix_rmode_seg in vmx.c)."""
    return segment is not None and segment.attributes & 0xFFFF in {_VM86_RIGHTS, 0xFB00}


def _tracked(cpu: Cpu) -> Tracked:
    registers = cpu.registers
    cr0 = registers.get("cr0")
    others = [registers[name] for name in ("cr2", "cr3", "cr4", "efer") if name in registers]
    if cr0 is None:
        return Tracked.NOT_SHOWN
    if not cr0 and not any(others):
        return Tracked.ZERO
    if cr0 & ~_CR0_CD_NW == 0x10:
        return Tracked.LEFT if any(others) else Tracked.RESET
    return Tracked.RUNNING


# -- then together ---------------------------------------------------------------------------------


def _together(cpu: Cpu, judged: _Parts, rest: str) -> tuple[State, str]:
    gprs, place, loaded, tracked = judged
    if place == Place.NOT_SHOWN and loaded == Loaded.NOT_SHOWN:
        return State.UNKNOWN, "Neither RIP nor CS was shown."
    hidden = _hidden(cpu, judged)
    if hidden is not None:
        return hidden
    live = tracked == Tracked.RUNNING and bool(cpu.registers.get("cr0", 0) & _CR0_PG)
    if place in {Place.RESET, Place.OLD_RESET}:
        return _at_the_vector(gprs, place, tracked, rest, live=live)
    if place == Place.STARTUP and gprs in {Gprs.RESET, Gprs.NOT_SHOWN} and tracked != Tracked.RUNNING:
        if tracked == Tracked.LEFT:
            return State.HALF_RESET, f"A start-up IPI placed this processor, but {rest} were not reset."
        return State.STARTUP, "A start-up IPI has just placed this processor: it has executed nothing yet."
    if place == Place.IMPOSSIBLE or (place == Place.FIRST and (live or (tracked == Tracked.LEFT and _paged(cpu)))):
        return State.MIXTURE, (
            f"CS is as a reset leaves it, but {rest} differ in a way no firmware reaches "
            "before it reloads CS: two states are mixed."
        )
    if place == Place.FIRST:
        return State.FIRST, "CS is as a reset leaves it: the firmware was in its very first instructions."
    if cpu.registers.get("rip") == _RESET_VECTOR and (live or _paged(cpu)):
        return State.MIXTURE, f"RIP is the reset vector's, but {rest} belong to a running system: two states are mixed."
    if place == Place.SMI:
        return State.SMI_ENTRY, "SMM is on and RIP is 0x8000: the first instruction of an SMI handler."
    if place == Place.RUNNING:
        return State.RAN, "The registers do not have reset values: the guest has run."
    return State.UNKNOWN, "What was shown does not tell whether the guest has run."


def _hidden(cpu: Cpu, judged: _Parts) -> tuple[State, str] | None:
    """States in which what the control block holds was not to be seen."""
    gprs, place, loaded, tracked = judged
    empty = place in {Place.ZERO, Place.NOT_SHOWN} and loaded in {Loaded.ZERO, Loaded.NOT_SHOWN}
    rip = cpu.registers.get("rip")
    rflags = cpu.registers.get("rflags")
    if empty and not rip and tracked == Tracked.ZERO and gprs != Gprs.RUNNING:
        return State.ZERO, (
            "Every register reads as zero, CR0 included, which no running CPU can show: "
            "the state is hidden (a confidential guest) or was never loaded."
        )
    if loaded == Loaded.ZERO and not rip and tracked in {Tracked.RUNNING, Tracked.LEFT}:
        return State.HIDDEN, (
            "RIP and every segment read as zero beside live control registers, as KVM shows a guest whose registers "
            "are encrypted (SEV-ES, SEV-SNP, TDX)."
        )
    if rflags is not None and not rflags & _RFLAGS_1:
        return State.UNREAD, (
            "RFLAGS lacks bit 1, which every CPU has set: what the control block holds was not read, or never run."
        )
    if loaded == Loaded.UNUSABLE:
        return State.IMPOSSIBLE, "No segment is present, CS included: no guest can be in that state."
    return None


def _at_the_vector(gprs: Gprs, place: Place, tracked: Tracked, rest: str, *, live: bool) -> tuple[State, str]:
    if tracked in {Tracked.RESET, Tracked.NOT_SHOWN} and gprs != Gprs.RUNNING:
        old = " (in the form of KVM before 3.10, or of one that runs real mode as virtual-8086 mode)"
        form = old if place == Place.OLD_RESET else ""
        return State.RESET, (
            f"The vCPU is at its reset vector with reset values{form}: the guest has executed nothing."
        )
    if tracked == Tracked.LEFT and gprs != Gprs.RUNNING and not live:
        return State.HALF_RESET, f"The vCPU is at its reset vector, but {rest} still hold what a reset clears."
    return State.MIXTURE, f"RIP and CS are at the reset vector, but {rest} cannot be: two states are mixed."


def _paged(cpu: Cpu) -> bool:
    registers = cpu.registers
    return bool(registers.get("cr0", 0) & _CR0_PG or registers.get("efer", 0) or registers.get("cr3", 0))


# AMD's extended families that Intel does not use as well: 10h, 11h, 14h … 1ah (Hygon's 18h among them).
# 12h and 13h are taken by both (Llano; Nova Lake, Diamond Rapids).
_AMD_EXTENDED = frozenset((1, 2, 5, 6, 7, 8, 9, 10, 11))


def cpu_signature_vendor(edx: int) -> Literal["intel", "amd"] | None:
    """Whose CPU the reset value of EDX (CPUID.1:EAX) describes, if that is unambiguous.

    It is the *guest's* CPU model: ``-cpu host`` and named models tell; QEMU's kvm64 and qemu64
    (family 15) do not. Family 6 before Core Duo was Intel's and AMD's alike.
    """
    family = edx >> 8 & 0xF
    model = edx >> 4 & 0xF
    extended_model = edx >> 16 & 0xF
    extended_family = edx >> 20 & 0xFF
    if family == 6:
        return "intel" if extended_model or model >= 0xE else None
    if family == 0xF and extended_family in _AMD_EXTENDED:
        return "amd"
    return None

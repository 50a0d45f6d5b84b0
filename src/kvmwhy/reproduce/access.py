"""Run again, on a bare VM of arm64 or riscv64, the access that failed: one instruction and one address without memory.

There is no emulator to compare: what decides is the instruction's form (arm64: whether the CPU describes its access;
riscv64: whether KVM decodes it), and what the VMM asked KVM for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kvmwhy.abi import kvm_run
from kvmwhy.abi.riscv64.one_reg import BY_NUMBER
from kvmwhy.abi.uname import Arch
from kvmwhy.arch.arm64 import operand as arm64_operand
from kvmwhy.arch.arm64.load_store import LoadStore, load_store
from kvmwhy.arch.riscv64 import operand as riscv64_operand
from kvmwhy.emulator.trap_wording import VMMS
from kvmwhy.machine.access import BARE, Setup, ask, in_words, kind, points_at, setups
from kvmwhy.machine.bare_guest import Stopped
from kvmwhy.machine.exits import ArmNisv
from kvmwhy.record import Event, Failure
from kvmwhy.reproduce.guest_plan import Cannot
from kvmwhy.reproduce.outcome import Ended, Outcome, Row, Status, Where

_WNR: Final = 1 << 6
_ELSEWHERE: Final = 0x0D00_0000  # where no RAM will be, if the report does not say where it was
_ZERO: Final = 31  # as an index it is XZR
_PHYSICAL: Final = 1 << 48
_FETCH: Final = 20  # SCAUSE: instruction guest-page fault
_STORES: Final = {7, 15, 23}
_OF_THE_GUEST: Final = {"arm64": {"ENOSYS"}, "riscv64": {"EOPNOTSUPP", "EIO"}}
# Instructions that stand for one that the report does not show, reading and writing.
_PAIRS: Final = {"arm64": ("ldp x1, x2, [x0]", "stp x1, x2, [x0]"), "riscv64": ("fld fa1, 0(a0)", "fsd fa1, 0(a0)")}
_CODES: Final = {
    "ldp x1, x2, [x0]": 0xA9400801,
    "stp x1, x2, [x0]": 0xA9000801,
    "fld fa1, 0(a0)": 0x00053587,
    "fsd fa1, 0(a0)": 0x00B53027,
}


class Access(msgspec.Struct, frozen=True):
    """What is to be run: ``setup`` is the VMM's, by what the report shows; ``expected`` as machine.access.kind says."""

    arch: Arch
    code: bytes
    address: int
    setup: Setup
    expected: str
    text: str | None = None
    assumed: tuple[str, ...] = ()


def plan_access(failure: Failure) -> Access | Cannot:
    """The access, from the instruction and registers, or from what the kernel traced of the fault."""
    arch = failure.arch
    if arch is None or arch not in BARE:
        return Cannot("the report does not show an architecture whose accesses can be run again here")
    exit_ = failure.exit_reason if failure.kind == "other" else None
    if failure.kind == "run-error" and failure.errno in _OF_THE_GUEST[arch]:
        expected, setup = failure.errno, "plain"
    elif exit_ == kvm_run.EXIT_ARM_NISV:
        expected, setup = "nisv", "nisv"
    elif failure.kind == "run-error":
        named = failure.errno or "an errno that is not shown"
        return Cannot(
            f"KVM_RUN failed with {named}: the cause is in the host or the VMM, not in what the guest executed"
        )
    else:
        return Cannot(
            "no access outside memory failed in it, and nothing else of a guest is run again on this architecture"
        )
    if arch == "riscv64" and failure.exit is not None and failure.exit.reason == _FETCH:
        return Cannot("the guest jumped to where no memory is: `kvmwhy probe` asks what KVM makes of that")
    return _made(failure, arch, expected or "", "nisv" if setup == "nisv" else "plain")


def _made(failure: Failure, arch: Arch, expected: str, setup: Setup) -> Access:
    assumed: list[str] = []
    code = _instruction(failure, arch)
    text = None
    if code is None:
        text = _PAIRS[arch][_is_write(failure)]
        code = _CODES[text].to_bytes(4, "little")
        shown = failure.code is not None and failure.code.at_rip()
        why = (
            "what is shown at PC cannot be pointed at an address"
            if shown
            else "the report does not show the instruction"
        )
        assumed.append(f"{why}: {text} stands for it")
    address = _address(failure)
    if address is None and text is None and (address := _by_registers(failure, arch, code)) is not None:
        assumed.append("the address is that of the registers, taken as mapped one to one")
    if address is None:
        address = _ELSEWHERE
        assumed.append(f"the report does not show the address: {address:#x} has no memory here either")
    return Access(arch, code, address, setup, expected, text, tuple(assumed))


def _instruction(failure: Failure, arch: Arch) -> bytes | None:
    """The load or store at PC, if it is shown and has an operand that can be moved."""
    code = failure.code.at_rip() if failure.code else b""
    length = 4 if arch == "arm64" else riscv64_operand.length(code)
    if len(code) < length or points_at(arch, code[:length], _ELSEWHERE) is None:
        return None
    return code[:length]


def _address(failure: Failure) -> int | None:
    """By the kernel's word for the fault."""
    if failure.exit is not None and failure.exit.info2:
        return failure.exit.info2
    if (ipa := failure.exit_fields.get("fault_ipa")) is not None:
        return ipa
    traced = (event.fields.get("ipa") for event in reversed(failure.trace))
    return next((ipa for ipa in traced if isinstance(ipa, int)), None)


def _by_registers(failure: Failure, arch: Arch, code: bytes) -> int | None:
    """The operand's linear address, if it can be a physical one as well."""
    registers = failure.cpu.registers if failure.cpu else {}
    if arch == "arm64":
        where = arm64_operand.operand(int.from_bytes(code, "little"))
        assert where is not None  # noqa: S101 -- _instruction has looked
        base = registers.get("sp" if where.base == arm64_operand.STACK_POINTER else f"x{where.base}")
        if (index := _index(where, registers)) is None:
            return None
        offset = where.offset + index
    else:
        access = riscv64_operand.operand(code)
        assert access is not None  # noqa: S101 -- as above
        base, offset = registers.get(BY_NUMBER[access.base]), access.offset
    return base + offset if base is not None and 0 <= base + offset < _PHYSICAL else None


def _index(where: arm64_operand.Operand, registers: Mapping[str, int]) -> int | None:
    """What the index register adds; None if it is not shown, or extended or shifted first."""
    if where.added is None or where.added == _ZERO:
        return 0
    return None if where.is_changed else registers.get(f"x{where.added}")


def _is_write(failure: Failure) -> bool:
    if failure.arch == "riscv64":
        return failure.exit is not None and failure.exit.reason in _STORES
    syndrome = failure.exit_fields.get("esr_iss") or _traced_syndrome(failure.trace)
    if syndrome is None and failure.exit is not None:
        syndrome = failure.exit.info1
    return bool((syndrome or 0) & _WNR)


def _traced_syndrome(events: tuple[Event, ...]) -> int | None:
    for event in reversed(events):
        if event.name == "kvm_mmio_nisv" and isinstance(esr := event.fields.get("esr"), int):
            return esr
    return None


# -- running -------------------------------------------------------------------------------------------


def reproduce_access(access: Access, where: Where) -> Outcome:
    """Ask this host's KVM, with each set-up of a VMM that it has. Raises MachineError."""
    available = setups(access.arch)
    answers = {setup: ask(access.arch, access.code, access.address, setup) for setup in available}
    stopped = answers.get(access.setup)
    here = "no such capability" if stopped is None else in_words(access.arch, stopped)
    same = stopped is not None and kind(stopped) == access.expected
    rows = [
        Row("failure", _expected_words(access), here, same),
        *(
            Row(f"for {VMMS[setup]}", "", in_words(access.arch, answer), None)
            for setup, answer in answers.items()
            if setup != access.setup
        ),
    ]
    what = f"{_named(access)} at {access.address:#x}, where no memory is"
    ended = _ended(stopped) if stopped is not None else None
    if same:
        answer = f"Reproduced on {where.text}: {what}: {here}."
    else:
        answer = f"Not on this kernel ({where.text}): {what}: {here}."
    status: Status = "reproduced" if same else "not-on-this-kernel"
    return Outcome(status, answer, where, None, ended, tuple(rows), assumed=access.assumed, since=_reason(access))


def _named(access: Access) -> str:
    return access.text or f"the instruction {_word(access)}"


def _word(access: Access) -> str:
    return f"{int.from_bytes(access.code, 'little'):0{2 * len(access.code)}x}"


def _expected_words(access: Access) -> str:
    return "KVM_EXIT_ARM_NISV" if access.expected == "nisv" else f"KVM_RUN fails with {access.expected}"


def _reason(access: Access) -> str | None:
    """Why, by the form of the instruction."""
    if access.arch != "arm64":
        return None
    form = load_store(int.from_bytes(access.code, "little"))
    if not isinstance(form, LoadStore) or form.described is None:
        return None
    if form.described:
        return f"{form.form}: the CPU describes this access to KVM, so that it is MMIO for the VMM"
    return f"{form.form}: the CPU does not describe this access to KVM, and KVM on Arm decodes no instructions"


def _ended(stopped: Stopped) -> Ended:
    last = stopped.exits[-1] if stopped.exits else None
    fields = (last.esr_iss, last.fault_ipa) if isinstance(last, ArmNisv) else ()
    number = stopped.trap.cause if stopped.trap else None
    how = {"errno": "error", "trap": "other", "end": "halted", "timeout": "looped", "many": "looped"}
    return Ended(
        how.get(stopped.how, "other"),
        tuple(exit_.name for exit_ in stopped.exits),
        words=fields,
        number=number,
        error=stopped.errno_name if stopped.how == "errno" else None,
    )

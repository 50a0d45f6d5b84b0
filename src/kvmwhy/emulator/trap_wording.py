"""The atlas of arm64 and riscv64 in words: an outcome in a clause, a setup by its name, a row from kernel to kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from kvmwhy.abi.arm64 import esr
from kvmwhy.abi.error_numbers import NAMES
from kvmwhy.abi.riscv64.causes import cause
from kvmwhy.arch.riscv64.forms import is_compressed
from kvmwhy.emulator.trap_atlas import Outcome, Row, is_undefined, of_columns
from kvmwhy.emulator.trap_file import Column, Trap
from kvmwhy.emulator.wording import accesses

# What each setup is, without its option.
_SETUPS: Final = {
    "mmu-off": "MMU off",
    "mmu-on": "MMU on",
    "read-only": "read-only slot",
    "el0": "EL0",
    "mmu-off-misaligned": "odd address, MMU off",
    "mmu-on-misaligned": "odd address, MMU on",
    "bare": "paging off",
    "sv39": "paging on",
    "bare-misaligned": "odd address, paging off",
    "sv39-misaligned": "odd address, paging on",
    "user": "user mode",
}
# What the VMM does besides, by the end of the setup's name.
_OPTIONS: Final = {
    "plain": "",
    "nisv": "With KVM_CAP_ARM_NISV_TO_USER: ",
    "abort": "With it, and an abort that the VMM injects, as QEMU does since 5.1: ",
}

# The same for a VMM alone, whatever its guest does.
VMMS: Final = {
    "plain": "a VMM that asks for nothing",
    "nisv": "a VMM with KVM_CAP_ARM_NISV_TO_USER",
    "abort": "a VMM that then injects an external abort, as QEMU does",
}


class Span(NamedTuple):
    """Setups and columns with one outcome."""

    setups: tuple[str, ...]
    columns: tuple[Column, ...]
    trap: Trap


def digits(word: int, arch: str) -> str:
    """An instruction as a disassembler prints it."""
    return f"{word:04x}" if arch == "riscv64" and is_compressed(word) else f"{word:08x}"


def say(trap: Trap, arch: str) -> str:
    """One outcome in one clause."""
    before = f" after it {accesses(trap.accesses)}" if trap.accesses else ""
    match trap.kind:
        case "mmio":
            return f"KVM_EXIT_MMIO: {accesses(trap.accesses)}"
        case "done":
            return "no fault, and userspace is told nothing"
        case "error":
            return f"KVM_RUN fails with {NAMES.get(trap.code, trap.code)}{before}"
        case "nisv":
            direction = "write" if trap.code & 0x40 else "read"
            return f"KVM_EXIT_ARM_NISV, esr_iss {trap.code:#x} ({direction}, {esr.fault_status(trap.code & 0x3F)})"
        case "exception":
            return f"the guest gets {_exception(trap, arch)}{before}"
        case "exit":
            return f"KVM leaves to userspace with exit reason {trap.code}{before}"
        case "timeout":
            return f"KVM_RUN does not return{before}"
        case _:
            return f"the same accesses for ever: {accesses(trap.accesses)}"


def short(trap: Trap, arch: str) -> str:
    """The same in a word or three, without sizes and addresses."""
    match trap.kind:
        case "mmio":
            return "MMIO"
        case "done":
            return "no fault"
        case "error":
            return NAMES.get(trap.code, str(trap.code))
        case "nisv":
            return "NISV"
        case "exit":
            return f"exit {trap.code}"
        case "timeout":
            return "no return"
        case "endless":
            return "no end"
    if is_undefined(trap, arch):
        return "undefined instruction" if arch == "arm64" else cause(trap.code)
    if arch == "riscv64":
        return cause(trap.code)
    if esr.exception_class(trap.code) in {0x24, 0x25}:
        return esr.fault_status(trap.code & 0x3F).partition(",")[0].removeprefix("synchronous ")
    return esr.CLASSES.get(esr.exception_class(trap.code), "an exception")


def _exception(trap: Trap, arch: str) -> str:
    if is_undefined(trap, arch):
        unknown = "undefined instruction" if arch == "arm64" else cause(trap.code)
        return f"{unknown}: this CPU does not have it, or KVM hides it"
    if arch == "riscv64":
        return cause(trap.code)
    if esr.exception_class(trap.code) in {0x24, 0x25}:
        direction = "write" if trap.code & 0x40 else "read"
        return f"a data abort: {esr.fault_status(trap.code & 0x3F)}, {direction}"
    return f"{esr.CLASSES.get(esr.exception_class(trap.code), 'an exception')} (ESR_EL1 {trap.code:#x})"


def split(setup: str) -> tuple[str, str]:
    """How the guest accesses, in words, and which of VMMS it runs on: by the end of the setup's name."""
    name, _, last = setup.rpartition("-")
    return (_SETUPS[name], last) if last in VMMS else (_SETUPS[setup], "plain")


def setup_names(setups: Sequence[str]) -> str:
    """Several, such as "MMU off; EL0. With KVM_CAP_ARM_NISV_TO_USER: EL0"."""
    groups: dict[str, list[str]] = {}
    for setup in setups:
        name, option = split(setup)
        groups.setdefault(option, []).append(name)
    return ". ".join(words + "; ".join(groups[option]) for option, words in _OPTIONS.items() if option in groups)


def spans(row: Row) -> list[Span]:
    """Setups with equal outcomes on every column together, and of each its columns from the oldest on."""
    groups: dict[tuple[tuple[Column, Trap], ...], list[str]] = {}
    for setup in row.setups:
        if measured := row.in_setup(setup):
            groups.setdefault(tuple(measured), []).append(setup)
    found = []
    for outcomes, setups in groups.items():
        columns: list[Column] = []
        last = outcomes[0][1]
        for column, trap in outcomes:
            if trap != last:
                found.append(Span(tuple(setups), tuple(columns), last))
                columns, last = [], trap
            columns.append(column)
        found.append(Span(tuple(setups), tuple(columns), last))
    return found


def series(columns: tuple[Column, ...]) -> str:
    """``6.1 … 7.3``; with the emulator where that is not the one of the oldest."""
    names = [f"{column.series[0]}.{column.series[1]}" for column in columns]
    machines = list(dict.fromkeys(column.emulator for column in columns))
    text = names[0] if len(set(names)) == 1 else f"{names[0]} … {names[-1]}"
    return f"{text} ({', '.join(machines)})"


def answers(row: Row) -> list[Outcome]:
    """What to answer first, and where it holds: of the first setup, on all columns."""
    return of_columns(row, row.setups[0], row.columns)

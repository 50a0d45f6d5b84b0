"""``kvmwhy run`` on arm64 and riscv64: a flat binary as a guest without address translation, and its end explained."""

from __future__ import annotations

import platform
import sys
from typing import NamedTuple

import msgspec

from kvmwhy.abi.arm64 import esr
from kvmwhy.abi.uname import Arch
from kvmwhy.cli.output import complain, counted, show
from kvmwhy.cli.run import image, number, print_exit, what_is_named
from kvmwhy.cli.status import DONE
from kvmwhy.contract import MachinePart
from kvmwhy.diagnosis import diagnose
from kvmwhy.machine import Exit, FailEntry, InternalError, MachineError, Unknown
from kvmwhy.machine.access import BARE, NISV, in_words
from kvmwhy.machine.access import kind as kind_of
from kvmwhy.machine.bare_guest import BareGuest, Stopped
from kvmwhy.machine.exits import ArmLdst64b, ArmNisv, ArmSea
from kvmwhy.machine.one_reg import OneRegVcpu, OneRegVm
from kvmwhy.readers import run_page
from kvmwhy.record import Code, Cpu, Failure, Host, Source
from kvmwhy.record import Exit as SeenExit
from kvmwhy.render.json import to_object
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe
from kvmwhy.render.text import explanation

_WINDOW, _BEFORE = 48, 16
_FAILURES = (InternalError, FailEntry, Unknown, ArmNisv, ArmSea, ArmLdst64b)


class BareOptions(NamedTuple):
    """What the command line asks for."""

    image: str
    memory: str
    mmio: tuple[str, ...]
    registers: tuple[str, ...]
    nisv: bool
    timeout: float
    max_exits: int
    page: str | None
    as_json: bool


def run(arch: Arch, wish: BareOptions) -> int:
    """Run the guest; return the exit status. Raises MachineError, ValueError, OSError."""
    bare = BARE[arch]
    code = image(wish.image)
    holes = tuple((number(at, "--mmio"), number(size or "4K", "--mmio")) for at, _, size in map(_cut, wish.mmio))
    guest = BareGuest(
        bare.isa, code, memory=number(wish.memory, "--mem"), mmio=holes, regs=what_is_named(wish.registers)
    )
    part = MachinePart(on="kvm", kernel=platform.release())
    with bare.machine() as machine:
        if wish.nisv:
            machine.enable(NISV)
        vcpu = guest.load(machine)
        if not wish.as_json:
            show([Line(safe(f"On this host's KVM (Linux {part.kernel}, {arch}), code at {guest.entry:#x}."), "dim")])
        stopped = guest.run(
            vcpu,
            timeout=wish.timeout,
            limit=wish.max_exits,
            seen=lambda exit_: print_exit(exit_, part, as_json=wish.as_json),
        )
        if wish.page:
            with open(wish.page, "wb") as out:
                out.write(vcpu.page())
        _end(Ran(arch, machine, vcpu, guest, stopped), part, as_json=wish.as_json)
    return DONE


def _cut(text: str) -> tuple[str, str, str]:
    return text.partition(":")


class Ran(NamedTuple):
    """A guest that has stopped, and what it ran on."""

    arch: Arch
    machine: OneRegVm
    vcpu: OneRegVcpu
    guest: BareGuest
    stopped: Stopped


def _end(ran: Ran, part: MachinePart, *, as_json: bool) -> None:
    stopped = ran.stopped
    last = stopped.exits[-1] if stopped.exits else None
    if stopped.how == "many":
        complain(f"stopped after {counted(len(stopped.exits), 'exit')}; --max-exits allows more")
    elif stopped.how == "errno" or (stopped.how == "exit" and isinstance(last, _FAILURES)):
        diagnosis = diagnose(convey(ran))
        if as_json:
            sys.stdout.write(msgspec.json.encode({**to_object(diagnosis), "machine": part}).decode() + "\n")
        else:
            show([Line(), *explanation(diagnosis)])
    elif not as_json:
        show([Line(_ending(ran), "answer")])


def _ending(ran: Ran) -> str:
    """What became of a guest that did not fail."""
    arch, stopped, vcpu = ran.arch, ran.stopped, ran.vcpu
    match stopped.how:
        case "end":
            return "The guest ran to the end of its code."
        case "trap" if stopped.trap:
            address = f", address {stopped.trap.address:#x}" if arch == "riscv64" or _has_address(stopped) else ""
            text = in_words(arch, stopped).removeprefix("the guest takes ")
            return f"The guest took {text} at {stopped.trap.pc:#x}{address}, and stopped in its handler."
        case "timeout":
            return f"The guest did not exit in time; its PC is {vcpu.get('pc'):#x}."
    return f"The guest stopped at {ran.guest.registers(vcpu, stopped)['pc']:#x}."


def _has_address(stopped: Stopped) -> bool:
    """FAR_EL1 is valid for aborts and alignment faults only."""
    return stopped.trap is not None and esr.exception_class(stopped.trap.cause & 0xFFFF_FFFF) in _WITH_FAR


_WITH_FAR = {0x20, 0x21, 0x22, 0x24, 0x25}


def convey(ran: Ran) -> Failure:
    """The failure as a record: what KVM_RUN left, the registers, and the code around PC."""
    arch, machine, vcpu, guest, stopped = ran
    registers = guest.registers(vcpu, stopped)
    last: Exit | None = stopped.exits[-1] if stopped.exits else None
    if stopped.how == "errno":
        failure = Failure(kind="run-error", errno=kind_of(stopped))
    else:
        (failure,) = run_page.read(vcpu.page()).failures
    exit_ = None
    if isinstance(last, ArmNisv | ArmLdst64b):
        exit_ = SeenExit(reason=_DATA_ABORT, info1=_DATA_ABORT << 26 | esr.IL | last.esr_iss, info2=last.fault_ipa)
    return msgspec.structs.replace(
        failure,
        arch=arch,
        arch_from="the architecture of this host",
        source=Source(vmm="kvmwhy", vcpu=vcpu.id),
        cpu=Cpu(registers=registers),
        code=_code(machine, registers["pc"]),
        exit=exit_,
        host=Host(kernel=platform.release()),
    )


_DATA_ABORT = 0x24


def _code(machine: OneRegVm, pc: int) -> Code:
    start = max(0, pc - _BEFORE)

    def byte(at: int) -> int | None:
        try:
            return machine.read(at, 1)[0]
        except MachineError:
            return None

    return Code(tuple(byte(start + n) for n in range(_WINDOW)), pc - start)

"""``kvmwhy run``: a flat binary as a guest, its exits as they come, and the failure at the end explained."""

from __future__ import annotations

import re
import sys
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from kvmwhy.abi import literal
from kvmwhy.abi.kvm_run import EXITS
from kvmwhy.abi.uname import Arch
from kvmwhy.cli.from_vcpu import convey
from kvmwhy.cli.other_host import bare_host, refusal
from kvmwhy.cli.output import complain, counted, show
from kvmwhy.cli.status import BAD_INPUT, DONE, NOT_PERMITTED
from kvmwhy.cli.what_runs import sentence, what_runs
from kvmwhy.contract import MachinePart
from kvmwhy.diagnosis import diagnose
from kvmwhy.machine import (
    ArmNisv,
    Exit,
    FailEntry,
    Guest,
    Hlt,
    InternalError,
    Io,
    KvmMachine,
    Machine,
    MachineError,
    Mmio,
    Mode,
    NoKvmError,
    NotPermittedError,
    Shutdown,
    TimedOut,
    Unknown,
    Vcpu,
    X86Rdmsr,
    X86Wrmsr,
)
from kvmwhy.render.json import to_object
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe
from kvmwhy.render.text import explanation

_CHUNK, _CHUNKS = 1 << 20, 1 << 10
_UNITS: Final = {"": 0, "K": 10, "M": 20, "G": 30}
_SIZE: Final = re.compile(r"(0x[0-9a-fA-F]{1,16}|\d{1,20})([KMG]?)", re.ASCII)
_FAILURES: Final = (InternalError, FailEntry, Unknown, Shutdown)


class RunOptions(NamedTuple):
    """What the command line asks for."""

    image: str
    mode: Mode | None  # None: of this host, long64 on x86
    memory: str
    mmio: tuple[str, ...]
    registers: tuple[str, ...]
    on: str  # kvm | model | auto
    kernel: str | None
    vendor: str | None
    cap204: bool
    nisv: bool
    cpl: int
    timeout: float
    max_exits: int
    page: str | None
    as_json: bool


def run(wish: RunOptions) -> int:
    """Run the guest; return the exit status."""
    try:
        if (arch := _bare(wish)) is not None:
            return _run_bare(arch, wish)
        guest = _guest(wish)
        with open_machine(wish.on, kernel=wish.kernel, vendor=wish.vendor) as machine:
            if wish.cap204:
                machine.enable("KVM_CAP_EXIT_ON_EMULATION_FAILURE", 1)
            vcpu = guest.load(machine)
            part = what_runs(machine, wish.on)
            if part.why:
                complain(sentence(part))
            if not wish.as_json:
                show([Line(safe(sentence(part)), "dim")])
            return _run(machine, part, vcpu, guest, wish)
    except (NoKvmError, NotPermittedError) as error:
        complain(str(error))
        return NOT_PERMITTED
    except (MachineError, ValueError) as error:
        complain(str(error))
        return BAD_INPUT
    except OSError as error:
        complain(f"{error.filename or wish.image}: {(error.strerror or str(error)).lower()}")
        return BAD_INPUT


def _bare(wish: RunOptions) -> Arch | None:
    """Where the guest is of this host's own architecture, and that has no segments: arm64, riscv64."""
    return bare_host() if wish.mode is None and wish.on != "model" and not (wish.kernel or wish.vendor) else None


def _run_bare(arch: Arch, wish: RunOptions) -> int:
    from kvmwhy.cli.run_bare import BareOptions
    from kvmwhy.cli.run_bare import run as run_bare

    if sentence := refusal((("--cpl", wish.cpl), ("--cap204", wish.cap204)), "x86", arch):
        raise ValueError(sentence)
    fields = (wish.image, wish.memory, wish.mmio, wish.registers, wish.nisv, wish.timeout, wish.max_exits, wish.page)
    return run_bare(arch, BareOptions(*fields, wish.as_json))


def open_machine(on: str, *, kernel: str | None = None, vendor: str | None = None) -> Machine:
    """/dev/kvm, or the model; ``auto`` takes the model where there is no usable /dev/kvm."""
    if on != "model" and (kernel or vendor):
        raise ValueError("--kernel and --vendor choose a modelled kernel: add --on model")
    if on != "model":
        try:
            return KvmMachine()
        except (NoKvmError, NotPermittedError):
            if on == "kvm":
                raise
    from kvmwhy.machine.model import Model

    chosen: Any = {"kernel": kernel, "vendor": vendor}
    return Model(**{name: value for name, value in chosen.items() if value is not None})


def _guest(wish: RunOptions) -> Guest:
    if wish.nisv:
        raise ValueError("--nisv is for arm64: it takes a host that is arm64, and no --mode")
    code = image(wish.image)
    holes = []
    for text in wish.mmio:
        address, _, size = text.partition(":")
        holes.append((number(address, "--mmio"), number(size or "4K", "--mmio")))
    registers = what_is_named(wish.registers)
    memory = number(wish.memory, "--mem")
    return Guest(wish.mode or "long64", code, cpl=wish.cpl, memory=memory, mmio=tuple(holes), regs=registers)


def image(path: str) -> bytes:
    """The code; a file that is much larger than it can be is not read to its end. Raises OSError, ValueError."""
    with open(path, "rb") as stream:
        code = b"".join(islice(iter(lambda: stream.read(_CHUNK), b""), _CHUNKS))
    if not code:
        raise ValueError(f"{path} is empty")
    return code


def what_is_named(options: tuple[str, ...]) -> dict[str, int]:
    """NAME=VALUE, as --reg takes it. Raises ValueError."""
    registers = {}
    for text in options:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--reg takes NAME=VALUE, not {text!r}")
        registers[name.strip().lower()] = number(value, f"--reg {name}")
    return registers


def number(text: str, what: str) -> int:
    """Of an option, with K, M or G behind it. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{what} takes a number, as 0x1000 or 64K, not {text!r}")
    return literal.number(match[1]) << _UNITS[match[2]]


def _run(machine: Machine, part: MachinePart, vcpu: Vcpu, guest: Guest, wish: RunOptions) -> int:
    last: Exit | None = None
    for _ in range(wish.max_exits):
        last = vcpu.run(timeout=wish.timeout)
        print_exit(last, part, as_json=wish.as_json)
        match last:
            case Mmio(is_write=False, len=size):
                vcpu.complete(bytes(size))
            case Io(is_write=False, size=size, count=count):
                vcpu.complete(bytes(size * count))
            case X86Rdmsr() | X86Wrmsr():
                vcpu.refuse()
            case Mmio() | Io():
                pass
            case _:
                break
    else:
        complain(f"stopped after {counted(wish.max_exits, 'exit')}; --max-exits allows more")
        return DONE
    if wish.page:
        with open(wish.page, "wb") as out:
            out.write(vcpu.page())
    if isinstance(last, _FAILURES):
        ram_bytes = None if guest.mmio else guest.memory
        failure = convey(machine, vcpu, ram_bytes=ram_bytes, kernel=part.kernel)
        diagnosis = diagnose(failure)
        if wish.as_json:
            line = msgspec.json.encode({**to_object(diagnosis), "machine": part})
            sys.stdout.write(line.decode() + "\n")
        else:
            show([Line(), *explanation(diagnosis)])
    elif not wish.as_json:
        show([Line(_ending(machine, vcpu, guest, last), "answer")])
    return DONE


def _ending(machine: Machine, vcpu: Vcpu, guest: Guest, last: Exit | None) -> str:
    """What became of a guest that did not fail."""
    if isinstance(last, TimedOut):
        return f"The guest did not exit within {last.seconds:g} s."
    if fault := guest.fault(machine, vcpu):
        from kvmwhy.abi.x86.exceptions import mnemonic

        if guest.ran_through(machine, vcpu):
            return "The guest ran to the end of its code."
        code = "" if fault.error_code is None else f", error code {fault.error_code:#x}"
        return f"The guest took {mnemonic(fault.vector)}{code} at {fault.rip:#x}, and halted in its handler."
    if isinstance(last, Hlt) and guest.ran_through(machine, vcpu):
        return "The guest ran to the end of its code."
    return f"The guest stopped at {vcpu.get_regs().rip:#x}."


def print_exit(exit_: Exit, machine: MachinePart, *, as_json: bool) -> None:
    if as_json:
        fields = {name: _in_json(exit_, name, value) for name, value in _payload(exit_)}
        sys.stdout.write(msgspec.json.encode({"exit": exit_.name, "on": machine.on, **fields}).decode() + "\n")
    else:
        sys.stdout.write(safe(describe(exit_)) + "\n")
    sys.stdout.flush()


def _payload(exit_: Exit) -> list[tuple[str, object]]:
    """The members of the exit; of an internal error's data only what KVM wrote."""
    return [
        (name, exit_.words if isinstance(exit_, InternalError) and name == "data" else value)
        for name, value in msgspec.structs.asdict(exit_).items()
    ]


def _in_json(exit_: Exit, name: str, value: object) -> object:
    """As in records: 64 bits are 0x text, which no reader of JSON rounds; what C has narrower is a number."""
    known = EXITS.get(exit_.exit_reason)
    is_narrow = any(field.name == name and field.size < 8 for field in known.fields) if known else False
    return value if is_narrow and isinstance(value, int) else _plain(value)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex(" ")
    if isinstance(value, bool) or not isinstance(value, int):
        return [f"{v:#x}" for v in value] if isinstance(value, tuple) else value
    return f"{value:#x}"


def describe(exit_: Exit) -> str:
    """One exit on one line."""
    match exit_:
        case Mmio(phys_addr=gpa, is_write=True, data=data):
            return f"MMIO write of {len(data)} at {gpa:#x}: {data.hex(' ')}"
        case Mmio(phys_addr=gpa, len=size):
            return f"MMIO read of {size} at {gpa:#x}, answered with zeros"
        case Io(port=port, is_write=True, data=data):
            return f"port {port:#x} written: {data.hex(' ')}"
        case Io(port=port, size=size, count=count):
            return f"port {port:#x} read, {size} x {count}, answered with zeros"
        case TimedOut(seconds=seconds):
            return f"no exit within {seconds:g} s"
        case InternalError(suberror=suberror, ndata=ndata):
            return f"KVM_EXIT_INTERNAL_ERROR, suberror {suberror}, ndata {ndata}"
        case ArmNisv(esr_iss=iss, fault_ipa=ipa):
            return f"KVM_EXIT_ARM_NISV: an access at {ipa:#x} that the CPU does not describe, ISS {iss:#x}"
    fields = ", ".join(f"{k} {_plain(v)}" for k, v in msgspec.structs.asdict(exit_).items())
    return f"{exit_.name}" + (f": {fields}" if fields else "")

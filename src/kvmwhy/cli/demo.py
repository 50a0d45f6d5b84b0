"""``kvmwhy demo``: the whole story of the mechanism on one screen, on any machine."""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.abi import encode_page
from kvmwhy.abi.internal_error import decode_emulation
from kvmwhy.abi.kvm_run import decode_page
from kvmwhy.cli.output import complain, show
from kvmwhy.cli.status import DONE, NOT_PERMITTED
from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.machine import Guest, MachineError
from kvmwhy.readers import run_page
from kvmwhy.record import Failure
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe

# mov eax,[rbx]; flds [rbx]: KVM can do the first where there is no memory, and not the second.
_CODE: Final = bytes.fromhex("8b03 d903")
_HOLE: Final = 0xD000_0000


class Story(NamedTuple):
    """What happened, and where it was made to happen."""

    where: str
    exits: tuple[str, ...]
    page: bytes
    failure: Failure


def run(on: str) -> int:
    """Tell it; return the exit status: 3 if the machine that was asked for cannot be had."""
    try:
        story = _story(on)
    except MachineError as error:
        complain(str(error))
        return NOT_PERMITTED
    show(_tell(story))
    return DONE


def _story(on: str) -> Story:
    last: MachineError | None = None
    for choice in ("kvm", "model") if on == "auto" else (on,):
        try:
            return _on_machine(choice, last)
        except MachineError as error:
            if on != "auto":
                raise
            last = error
    # Neither KVM nor the model: the kernel's side of the mechanism still is here.
    page = encode_page.emulation_failure(
        encode_page.ExitInfo(0x400, 0x1_0000_0004, _HOLE), insn=_CODE[2:] + b"\xf4" * 13
    )
    (failure,) = run_page.read(page).failures
    where = f"on paper: neither a /dev/kvm for x86 guests nor the model is here ({last})"
    return Story(where, ("KVM_EXIT_INTERNAL_ERROR, suberror 1",), page, failure)


def _on_machine(choice: str, refused: MachineError | None) -> Story:
    """``refused``: why it is not the machine that was wanted."""
    from kvmwhy.cli.from_vcpu import convey
    from kvmwhy.cli.run import describe, open_machine
    from kvmwhy.cli.what_runs import what_runs
    from kvmwhy.machine import Mmio

    guest = Guest("long64", _CODE, regs={"rbx": _HOLE})
    with open_machine(choice) as machine:
        vcpu = guest.load(machine)
        exits = []
        for _ in range(8):
            exit_ = vcpu.run(timeout=2.0)
            exits.append(describe(exit_))
            if not isinstance(exit_, Mmio):
                break
            vcpu.complete(bytes(exit_.len))
        where = "on /dev/kvm of this host" if choice == "kvm" else "on the model of KVM"
        where += f", for lack of /dev/kvm ({refused})" if refused else ""
        failure = convey(machine, vcpu, ram_bytes=guest.memory, kernel=what_runs(machine, choice).kernel)
        return Story(where, tuple(exits), vcpu.page(), failure)


def _tell(story: Story) -> list[Line]:
    diagnosis = diagnose(story.failure)
    run_page_ = decode_page(story.page)
    return [
        Line("A guest fails, KVM reports, the record is conveyed and explained: " + safe(story.where) + ".", "answer"),
        Line(),
        _head("1. The guest"),
        Line("64-bit code at 0x10000, with RBX = 0xd0000000, where the guest has no memory:", indent=2),
        Line("8b 03    mov eax,[rbx]", indent=4),
        Line("d9 03    fld dword ptr [rbx]", indent=4),
        Line(),
        _head("2. KVM returns to its VMM"),
        *(Line(safe(text), indent=2) for text in story.exits),
        Line(),
        _head("3. What it left in the vCPU's kvm_run page"),
        *(Line(row, "dim", indent=2) for row in _hex(run_page_.raw, story.failure.ndata or 0)),
        *_reading(diagnosis),
        Line(),
        _head("4. What that means"),
        Line(safe(diagnosis.answer), "answer", indent=2),
        *(Line(safe(text), "plain", "+ ", 4, "good") for text in diagnosis.findings[0].for_),
        Line(),
        Line("kvmwhy explain FILE does this for your own log; kvmwhy run IMAGE for your own guest.", "dim"),
    ]


def _head(text: str) -> Line:
    return Line(style="head", label=text, label_style="head")


def _hex(union: bytes, ndata: int) -> list[str]:
    rows = ["offset 32   suberror " + union[0:4].hex(" ") + "   ndata " + union[4:8].hex(" ")]
    for n in range(min(ndata, 16)):
        at = 8 + 8 * n
        rows.append(f"offset {32 + at:<4} data[{n}]  {union[at : at + 8].hex(' ')}")
    return rows


def _reading(diagnosis: Diagnosis) -> list[Line]:
    failure = diagnosis.failure
    reading = decode_emulation(failure.data, failure.ndata).failure
    insn = "none" if reading.insn is None else reading.insn.hex(" ")
    lines = [Line(f"layout {reading.layout}; instruction bytes {insn}", indent=2)]
    if diagnosis.facts.explained:
        lines += [Line(safe(text), "plain", "- ", 2) for text in diagnosis.facts.explained.sentences]
    return lines

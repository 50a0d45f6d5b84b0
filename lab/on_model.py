"""Holds the model of KVM to what real kernels did with the same cases.

    python -m lab.on_model lab/results/svm-6.1*.gz          one file: the table, and every difference
    python -m lab.on_model --brief lab/results/*.gz         several: one line each

The release and the vendor to model come from the results file. Payloads are compared byte for byte.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, cast

from kvmwhy.machine.errors import IoctlError, MachineError, RefusedStateError
from kvmwhy.machine.exits import Exit as KvmExit
from kvmwhy.machine.exits import Hlt, InternalError, Io, Mmio, TimedOut
from kvmwhy.machine.model import Model
from kvmwhy.machine.protocol import Vcpu
from kvmwhy.machine.state import replace
from lab.cases import Case
from lab.compare import compare_file, report
from lab.outcome import Event, Exit, Failed, Outcome, load

_BENCHES: Final[dict[str, Literal["tcg", "bochs"]]] = {"svm": "tcg", "vmx": "bochs"}
_UNION: Final = slice(32, 32 + 168)


def main() -> int:
    """Compare each file; 1 if a case came out otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--brief", action="store_true", help="one line per file")
    arguments = parser.parse_args()
    different = 0
    for path in arguments.results:
        provenance, _ = load(path)
        agreement = compare_file(path, modelled(provenance.vendor, provenance.release))
        total, same = agreement.total.total(), agreement.same.total()
        different += total - same
        if arguments.brief:
            sys.stdout.write(f"{path.name:48} {same:5} of {total} the same ({100 * same / total:.1f} %)\n")
        else:
            sys.stdout.write(report(agreement) + "\n")
    return 1 if different else 0


def modelled(vendor: str, release: str) -> Callable[[Case], Outcome]:
    """A function that runs a case on the model of this kernel."""
    kernel = ".".join(release.split(".")[:2])

    def run(case: Case) -> Outcome:
        with Model(kernel=kernel, vendor=cast("Literal['vmx', 'svm']", vendor), bench=_BENCHES[vendor]) as machine:
            return _run(machine, case)

    return run


def _run(machine: Model, case: Case) -> Outcome:
    try:
        for memory in case.memory:
            machine.add_memory(memory.gpa, memory.size, readonly=memory.readonly)
        for chunk in case.chunks:
            machine.write(chunk.gpa, chunk.data)
        if case.cap204:
            machine.enable("KVM_CAP_EXIT_ON_EMULATION_FAILURE", 1)
        vcpu = machine.create_vcpu()
        vcpu.set_cpuid(machine.supported_cpuid())
        vcpu.set_sregs(replace(case.sregs, apic_base=vcpu.get_sregs().apic_base))
        if case.xcr0:
            vcpu.set_xcrs({0: case.xcr0})
        vcpu.set_regs(case.regs)
        if case.events is not None:
            vcpu.set_events(case.events)
    except (RefusedStateError, IoctlError) as error:
        return Outcome(case.id, stop="refused", failed=Failed(error.ioctl, error.errno or 0))
    except MachineError as error:
        return Outcome(case.id, stop="refused", failed=Failed(type(error).__name__, 0))
    exits: list[Exit] = []
    failures = 0
    while len(exits) < case.max_exits:
        exit_ = vcpu.run(timeout=case.timeout_ms / 1000)
        if isinstance(exit_, TimedOut):
            return Outcome(case.id, tuple(exits), stop="timeout", event=_event(vcpu))
        exits.append(_exit(exit_, vcpu.page()))
        match exit_:
            case Mmio(is_write=False, len=size):
                vcpu.complete(case.answer[:size])
            case Io(is_write=False, size=size, count=count):
                vcpu.complete(case.answer[:size] * count)
            case Io(port=port) if port == case.stop_port:
                break
            case Mmio() | Io():
                pass
            case _:
                failures += 1
                if failures >= case.failures or isinstance(exit_, Hlt):
                    break
    else:
        return Outcome(case.id, tuple(exits), stop="max-exits", event=_event(vcpu))
    return Outcome(case.id, tuple(exits), event=_event(vcpu))


def _event(vcpu: Vcpu) -> Event:
    """What KVM_GET_VCPU_EVENTS would say is still to be delivered."""
    events = vcpu.get_events()
    return Event(
        exception=events.exception_nr if events.exception_injected or events.exception_pending else None,
        interrupt=events.interrupt_nr if events.interrupt_injected else None,
        nmi=bool(events.nmi_injected or events.nmi_pending),
    )


def _exit(exit_: KvmExit, page: bytes) -> Exit:
    match exit_:
        case Mmio(phys_addr=gpa, len=size, is_write=write, data=data):
            return Exit(exit_.exit_reason, gpa=f"{gpa:#x}", size=size, write=write, data=data.hex())
        case Io(port=port, size=size, count=count, is_write=write, data=data):
            return Exit(exit_.exit_reason, port=port, size=size, count=count, write=write, data=data.hex())
        case InternalError():
            return Exit(exit_.exit_reason, payload=page[_UNION].hex())
    return Exit(exit_.exit_reason, payload=page[_UNION].hex())


if __name__ == "__main__":
    sys.exit(main())

"""Holds the model of KVM to what real kernels did with the same cases.

    python -m lab.on_model lab/results/svm-6.1*.gz          one file: the table, and every difference
    python -m lab.on_model --brief lab/results/*.gz         several: one line each
    python -m lab.on_model --table docs/conformance.md lab/results/*.gz

Kernel, vendor and the module's parameters come from the results file. Payloads are compared byte for
byte. Differences that lab.exceptions lists are counted, and not shown. Exit status: 0 all is as listed.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic, process_time
from typing import Final, Literal, NamedTuple, cast

from kvmwhy.machine.errors import CapabilityAbsentError, IoctlError, MachineError, RefusedStateError
from kvmwhy.machine.exits import Exit as KvmExit
from kvmwhy.machine.exits import Hlt, InternalError, Io, Mmio, TimedOut
from kvmwhy.machine.model import Model
from kvmwhy.machine.protocol import Vcpu
from kvmwhy.machine.x86.state import replace
from lab.cases import Case
from lab.catalogue import catalogue
from lab.compare import Agreement, compare
from lab.conformance import page, run_of, series
from lab.exceptions import apart, known
from lab.outcome import Event, Exit, Failed, Outcome, load

_BENCHES: Final[dict[str, Literal["tcg", "bochs"]]] = {"svm": "tcg", "vmx": "bochs"}
_UNION: Final = slice(32, 32 + 168)
_SHOWN: Final = 3  # differences of one case
# Seconds of this process's CPU time for a guest that loops without KVM; what loops through KVM ends by itself.
_PATIENCE: Final = 0.8
_SLICE: Final = 0.1


def main() -> int:
    """Compare each file; 1 if a case came out otherwise than listed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--brief", action="store_true", help="one line per file")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="write the page, if all is as listed")
    arguments = parser.parse_args()
    as_listed = True
    for path in arguments.results:
        found = held_to(path)
        as_listed &= found.as_listed
        sys.stdout.write(found.line() + "\n")
        if not arguments.brief:
            sys.stdout.write(found.agreement.table())
            sys.stdout.write("".join(f"{difference}\n" for difference in found.unlisted))
            sys.stdout.write("".join(f"{case}: listed, but does not differ\n" for case in found.unneeded))
    if not as_listed:
        return 1
    if arguments.table is not None:
        arguments.table.write_text(page(arguments.results), encoding="utf-8")
    return 0


class Held(NamedTuple):
    """How the model compares with one results file."""

    run: str
    agreement: Agreement
    unlisted: tuple[str, ...]  # differences that no exception covers, in words
    unneeded: tuple[str, ...]  # ids that an exception covers and that do not differ
    excepted: int

    @property
    def as_listed(self) -> bool:
        return not self.unlisted and not self.unneeded

    def line(self) -> str:
        total, same = self.agreement.total.total(), self.agreement.same.total()
        percent = 100 * same / max(1, total)
        unlisted = f", {len(self.unlisted)} NOT LISTED" if self.unlisted else ""
        return f"{self.run:16} {same:5} of {total} the same ({percent:.1f} %), {self.excepted} listed{unlisted}"


def held_to(path: Path, cases: Iterable[Case] | None = None) -> Held:
    """Run the model on ``cases``, or on all of them, and set what it says against a results file."""
    provenance, measured = load(path)
    run = run_of(provenance)
    asked = catalogue() if cases is None else cases
    wanted = [case for case in asked if case.id in measured and not apart(run, case.id)]
    agreement = compare(measured, modelled(provenance.vendor, provenance.release, provenance.module_args), wanted)
    different = {difference.case.id: difference for difference in agreement.differences}
    unlisted = [difference for name, difference in different.items() if known(run, name) is None]
    excepted = [case.id for case in wanted if known(run, case.id)]
    said = tuple(f"{one.case.id}: {'; '.join(one.what[:_SHOWN])}" for one in unlisted)
    unneeded = tuple(name for name in excepted if name not in different)
    return Held(run, agreement, said, unneeded, len(excepted) - len(unneeded))


def modelled(vendor: str, release: str, module_args: str = "") -> Callable[[Case], Outcome]:
    """A function that runs a case on the model of this kernel."""
    kernel = series(release)
    shadow = module_args in {"npt=0", "ept=0"}

    def run(case: Case) -> Outcome:
        name = cast("Literal['vmx', 'svm']", vendor)
        with Model(kernel=kernel, vendor=name, bench=_BENCHES[vendor], shadow_paging=shadow) as machine:
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
    except CapabilityAbsentError:
        return Outcome(case.id, stop="refused", failed=Failed("KVM_ENABLE_CAP", errno.EINVAL))
    except (RefusedStateError, IoctlError) as error:
        return Outcome(case.id, stop="refused", failed=Failed(error.ioctl, error.errno or 0))
    except MachineError as error:
        return Outcome(case.id, stop="refused", failed=Failed(type(error).__name__, 0))
    exits: list[Exit] = []
    failures = 0
    while len(exits) < case.max_exits:
        exit_ = _patiently(vcpu)
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


def _patiently(vcpu: Vcpu) -> KvmExit:
    """The next exit, or TimedOut: by CPU time, so that a busy machine changes nothing."""
    until = process_time() + _PATIENCE
    while True:
        before = monotonic()
        found = vcpu.run(timeout=_SLICE)
        ended_early = monotonic() - before < _SLICE
        if not isinstance(found, TimedOut) or ended_early or process_time() >= until:
            return found


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

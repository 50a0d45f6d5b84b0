"""What real KVMs reported of guests and states whose fault is known, said again as QEMU or the kernel prints it.

The numbers and the kernel's dumps are those of lab/results; the forms are QEMU's (tests/dumps.py). What is right
follows from the class of the case and from the rule that the state was made to break, never from the diagnosis.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumps import banner_of, print_dump
from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.readers import read
from kvmwhy.record import Code, Cpu, Segment
from lab import entry_run, outcome
from lab.cases import Case
from lab.catalogue import catalogue
from lab.entry_states import states
from lab.outcome import FAIL_ENTRY, INTERNAL_ERROR, Outcome

RESULTS = Path(__file__).parent.parent.parent / "lab" / "results"
STEP = 7  # of the cases each seventh, beginning elsewhere in each file: all classes and kernels, in seconds
_GPRS = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)))
_HANDLER = frozenset({"emulation-no-handler", "emulation-gives-up"})
_EVENT = frozenset({"event-delivery", "simultaneous-events"})
# A call or jump by a pointer that a device answers ends in a fetch; far transfers and IRET give up, or raise an event.
_RIGHT: dict[str, frozenset[str]] = {
    **dict.fromkeys(("data", "cached", "readonly", "readonly-read", "again", "stale"), _HANDLER | {"fetch-not-ram"}),
    **dict.fromkeys(("fetch", "edge"), _HANDLER | {"fetch-not-ram"}),
    **{f"event-{what}": _EVENT for what in ("idt", "stack", "stack-readonly", "gdt", "tss")},
    "stack": _HANDLER | _EVENT | {"fetch-not-ram"},
    "walk": _HANDLER | _EVENT,
    "entry": frozenset({"entry-refused-guest-state", "entry-refused-controls", "emulation-gives-up"}),
}
_PROTECTED = {
    **dict.fromkeys(("es", "ss", "ds", "fs", "gs"), "DS   [-WA]"),
    "cs": "CS64 [-RA]",
    "ldt": "LDT",
    "tr": "TSS64-busy",
}


def _segment(held: object) -> Segment:
    def bits(*names: str) -> int:
        at = {"type": 0, "s": 4, "dpl": 5, "present": 7, "avl": 12, "l": 13, "db": 14, "g": 15}
        return sum(int(getattr(held, name)) << at[name] for name in names)

    rights = bits("type", "s", "dpl", "present", "avl", "l", "db", "g") << 8
    return Segment(getattr(held, "selector"), getattr(held, "base"), getattr(held, "limit"), rights)  # noqa: B009


def _as_qemu_prints(case: Case, result: Outcome) -> str | None:
    """The banner of the last exit, and the registers: the case's, but for those that the outcome has."""
    last, state, sregs = result.last, result.state, case.sregs
    if result.stop != "exit" or last is None or state is None or last.reason not in {INTERNAL_ERROR, FAIL_ENTRY}:
        return None
    registers = {name: getattr(case.regs, name) for name in _GPRS}
    registers |= {name: int(getattr(state, name), 16) for name in ("rip", "rflags", "rsp", "rax", "rcx", "rsi", "rdi")}
    wide = bool(sregs.cs.l and sregs.efer & 1 << 10)
    if not wide:
        registers = {name: value & 0xFFFF_FFFF for name, value in registers.items()}
    registers |= {"cr0": sregs.cr0, "cr2": int(state.cr2, 16), "cr3": sregs.cr3, "cr4": sregs.cr4, "efer": sregs.efer}
    registers |= {"dr0": 0, "dr1": 0, "dr2": 0, "dr3": 0, "dr6": 0xFFFF_0FF0, "dr7": 0x400}
    segments = {name: _segment(getattr(sregs, name)) for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr")}
    segments |= {
        name: Segment(0, table.base, table.limit, 0) for name, table in (("gdt", sregs.gdt), ("idt", sregs.idt))
    }
    protected = bool(sregs.cr0 & 1)
    if not protected:
        selector = int(state.cs, 16)
        segments["cs"] = Segment(selector, selector << 4, segments["cs"].limit, segments["cs"].attributes)
    cpu = Cpu(
        wide=wide, registers=registers, segments=segments, cpl=sregs.cs.dpl if protected else 0, smm=False, halted=False
    )
    linear = registers["rip"] + (0 if wide else segments["cs"].base)
    before = min(20, linear)
    window = tuple(_byte(case, linear - before + n) for n in range(50))
    dump = print_dump(cpu, Code(window, before), lma=bool(sregs.efer & 1 << 10), kinds=_PROTECTED if protected else {})
    if last.reason == FAIL_ENTRY:
        return (
            f"KVM: entry failed, hardware error {int.from_bytes(bytes.fromhex(last.payload[:16]), 'little'):#x}\n{dump}"
        )
    suberror, *data = last.words
    return banner_of(suberror, tuple(data), padded=True) + dump


def _byte(case: Case, address: int) -> int | None:
    """What memory holds where the lab maps it one to one; ``??`` where no slot is."""
    if not any(slot.gpa <= address < slot.gpa + slot.size for slot in case.memory):
        return None
    held = next((c for c in reversed(case.chunks) if c.gpa <= address < c.gpa + len(c.data)), None)
    return 0 if held is None else held.data[address - held.gpa]


def _diagnosed(text: str) -> Diagnosis:
    return diagnose(read(text.encode()).failures[0])


FILES = sorted(RESULTS.glob("*.jsonl.gz"))
STATE_FILES = sorted((RESULTS / "entry-states").glob("*.jsonl.gz"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".jsonl.gz"))
def test_what_kvm_reported_is_told_by_its_cause(path: Path) -> None:
    """Nothing certain is wrong, on any kernel and vendor; and hardly anything is wrong at all."""
    cases = {case.id: case for case in catalogue()}
    _, results = outcome.load(path)
    told: Counter[bool] = Counter()
    for name in sorted(results)[FILES.index(path) % STEP :: STEP]:
        text = _as_qemu_prints(cases[name], results[name]) if name in cases else None
        if text is None:
            continue
        mechanism = _diagnosed(text).mechanism
        assert mechanism is not None
        is_right = mechanism.id in _RIGHT[name.split("/")[3]]
        assert is_right or mechanism.certainty != "certain", (name, mechanism)
        told[is_right] += 1
    assert told[True] > 50
    assert told[False] <= 0.05 * told.total(), told


def _refused(path: Path) -> Iterator[tuple[str, int, str]]:
    """The states that the CPU refused: name, number, and what the kernel logged."""
    for name, kept in entry_run.load(path)[1].items():
        last = kept.outcome.last
        if last is not None and last.reason == FAIL_ENTRY and kept.log.strip():
            yield name, int.from_bytes(bytes.fromhex(last.payload[:16]), "little"), kept.log


@pytest.mark.parametrize("path", STATE_FILES, ids=lambda path: path.name.removesuffix(".jsonl.gz"))
def test_a_state_that_a_vmm_loaded_wrongly_is_refused_for_the_rule_that_it_breaks(path: Path) -> None:
    """A VMM loads some 150 states, each wrong in one way: which rule that is stands in the kernel's dump."""
    broken = {state.case.id: state.vmx if path.name.startswith("vmx") else state.svm for state in states()}
    count = vmm = 0
    for name, number, log in _refused(path):
        line = f"KVM_EXIT_FAIL_ENTRY: hardware_entry_failure_reason = {number:#x}\n"
        whole, cut = _diagnosed(line + log), _diagnosed(line)
        assert whole.mechanism is not None, name
        assert cut.mechanism is not None, name
        of_controls = {"entry-refused-controls"} if number == 7 else {"entry-refused-guest-state"}
        either = {"entry-refused-controls", "entry-refused-guest-state"}  # VMEXIT_INVALID is both areas' number
        assert whole.mechanism.id in (either if number > 0x8000_0021 else of_controls), name
        assert cut.mechanism.id in (either if number > 0x8000_0021 else of_controls), name
        violations = {found.rule.id for found in whole.facts.checked.violations} if whole.facts.checked else set()
        assert broken[name] in violations or not violations or broken[name] is None, (name, violations)
        count += 1
        vmm += "vmm" in {origin.id for origin in whole.origins[:3]}
    assert count > 5
    assert vmm > 0.75 * count

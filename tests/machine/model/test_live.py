"""The model against /dev/kvm: the same guests give the same exits, payload for payload.

The host may be any vendor and any release from 6.1 on. The words of the vendor are compared where the
model is told them, that is, on kvm_pvm; elsewhere the shape is compared, and everything that is no word.
"""

import platform
from collections.abc import Iterator
from typing import NamedTuple

import pytest

pytest.importorskip("unicorn")

from kvmwhy.abi.uname import series_of
from kvmwhy.abi.x86 import pvm
from kvmwhy.machine import (
    Exit,
    Guest,
    InternalError,
    Io,
    KvmMachine,
    Machine,
    Mmio,
    Mode,
    Shutdown,
    TimedOut,
    Vcpu,
    replace,
)
from kvmwhy.machine.model import Model, Vendor
from kvmwhy.machine.x86 import boot_state

pytestmark = pytest.mark.live

HOLE = 0xD0000000
MOST_EXITS = 40
PATIENCE = 1.0
SKIPPED_WORDS = 5  # the vendor's
_AF, _PF, _ZF, _SF = 0x10, 4, 0x40, 0x80


class Case(NamedTuple):
    """``rbx`` is in the hole, one page below its end; the other registers as given."""

    name: str
    code: str
    mode: Mode = "long64"
    at: int = HOLE
    regs: tuple[tuple[str, int], ...] = ()
    undefined: int = 0  # flags that the instruction leaves undefined


CASES = [
    Case("load 1", "8a 03"),
    Case("load 2", "66 8b 03"),
    Case("load 4", "8b 03"),
    Case("load 8", "48 8b 03"),
    Case("load across pages", "48 8b 03", at=HOLE + 0xFFD),
    Case("store 1", "88 03"),
    Case("store 4", "89 03"),
    Case("store 8", "48 89 03"),
    Case("store immediate", "c7 03 78 56 34 12"),
    Case("store across pages", "48 89 03", at=HOLE + 0xFFB),
    Case("add to memory", "01 03"),
    Case("add from memory", "03 03"),
    Case("compare", "3b 03"),
    Case("test", "f7 03 ff 00 00 00"),
    Case("not", "f7 13"),
    Case("increment", "fe 03"),
    Case("shift", "d1 23", undefined=_AF),
    Case("locked add", "f0 01 03"),
    Case("locked or", "f0 83 0b 01"),
    Case("xchg", "87 03"),
    Case("xadd", "0f c1 03"),
    Case("cmpxchg", "0f b1 03"),
    Case("cmpxchg8b", "0f c7 0b"),
    Case("cmpxchg16b reads, then fails", "48 0f c7 0b"),
    Case("setcc", "0f 94 03"),
    Case("cmov", "0f 44 03"),
    Case("movzx", "0f b6 03"),
    Case("movsx", "48 0f be 03"),
    Case("movsxd", "48 63 03"),
    Case("bit test", "0f ba 23 03"),
    Case("bit set", "0f ba 2b 03"),
    Case("bit reset, number in a register", "0f b3 03", regs=(("rax", 0x105),)),
    Case("bit test behind its operand", "48 0f a3 03", at=HOLE + 0x1000, regs=(("rax", (1 << 64) - 70),)),
    Case("imul", "0f af 03", undefined=_AF | _PF | _ZF | _SF),
    Case("mul", "f7 23", undefined=_AF | _PF | _ZF | _SF),
    Case("div", "f7 33", regs=(("rdx", 1),), undefined=0x8D5),
    Case("push from memory", "ff 33"),
    Case("pop to memory", "8f 03"),
    Case("push to the hole", "50", regs=(("rsp", HOLE + 0x1000), ("rax", 0x1122334455667788))),
    Case("pop from the hole", "58", regs=(("rsp", HOLE),)),
    Case("call through memory to nowhere", "ff 13"),
    Case("call, return address in the hole", "e8 00 00 00 00", regs=(("rsp", HOLE + 0x1000),)),
    Case("stos", "aa", regs=(("rdi", HOLE), ("rax", 0x5A))),
    Case("rep stos", "f3 ab", regs=(("rdi", HOLE), ("rcx", 3))),
    Case("rep movs to the hole", "f3 a4", regs=(("rdi", HOLE), ("rsi", 0x20000), ("rcx", 3))),
    Case("rep movs within the hole", "f3 a4", regs=(("rdi", HOLE), ("rsi", HOLE + 0x1000), ("rcx", 2))),
    Case("lods", "48 ad", regs=(("rsi", HOLE),)),
    Case("repe scas", "f3 ae", regs=(("rdi", HOLE), ("rcx", 4), ("rax", 1))),
    Case("cmps", "a6", regs=(("rdi", HOLE), ("rsi", HOLE + 0x1000))),
    Case("movups load", "0f 10 03"),
    Case("movups store", "0f 10 06 0f 11 03", regs=(("rsi", boot_state.GDT),)),
    Case("movdqu across pages", "f3 0f 6f 03", at=HOLE + 0xFF3),
    Case("movaps, not aligned", "0f 28 03", at=HOLE + 8),
    Case("movbe", "0f 38 f0 03"),
    Case("moffs", "a1 00 00 00 d0 00 00 00 00"),
    Case("two instructions", "8b 03 01 43 08"),
    Case("push all", "60", "prot32", regs=(("rsp", HOLE + 0x1000),)),
    Case("pop all", "61", "prot32", regs=(("rsp", HOLE),)),
    Case("32-bit load", "8b 03", "prot32"),
    Case("32-bit add with segment", "26 01 03", "prot32"),
    Case("far jump through memory", "ff 2b", "prot32"),
    Case("flds", "d9 03"),
    Case("fstps", "d9 1b"),
    Case("fxsave", "0f ae 03"),
    Case("addps", "0f 58 03"),
    Case("popcnt", "f3 0f b8 03"),
    Case("crc32", "f2 0f 38 f1 03"),
    Case("jump into the hole", "ff e3"),
    Case("32-bit flds", "d9 03", "prot32"),
    Case("32-bit jump into the hole", "ff e3", "prot32"),
    Case("hlt is privileged", "f4"),
    Case("no such page", "48 8b 03", at=0x123456789000),
    Case("not canonical", "48 8b 03", at=1 << 62),
    Case("in is privileged", "e4 64"),
    Case("ud2", "0f 0b"),
    Case("int3", "cc"),
    Case("int 0x80", "cd 80"),
    Case("divide error", "f7 f1"),
]

# What is known to differ on kvm_pvm, with the reason. An entry that no longer differs has to go.
KNOWN = {
    "32-bit flds": "kvm_pvm emulates all code without paging, and gives #UD instead of exiting",
    "32-bit jump into the hole": "kvm_pvm emulates all code without paging, and gives #UD instead of exiting",
    "int 0x80": "kvm_pvm gives #UD",
    "movbe": "kvm_pvm's CPUID does not offer it, so that KVM's emulator gives #UD",
}


def _vendor(machine: KvmMachine) -> Vendor:
    """Told by what a failure says."""
    vcpu = Guest("long64", bytes.fromhex("d9 03"), regs={"rbx": HOLE}).load(machine)
    found = vcpu.run(timeout=PATIENCE)
    assert isinstance(found, InternalError)
    reading = found.emulation
    assert reading is not None
    reason = reading.failure.reason or 0
    if pvm.is_reason(reason):
        return "pvm"
    return "svm" if reason == 0x400 else "vmx"


@pytest.fixture(scope="module")
def vendor(_kvm_works: None) -> Iterator[Vendor]:
    version = series_of(platform.release())
    if version is None or not (6, 1) <= version <= (7, 3):
        pytest.skip(f"the model does not know {platform.release()}")
    with KvmMachine() as machine:
        yield _vendor(machine)


def _guest(case: Case) -> Guest:
    regs = {"rbx": case.at, **dict(case.regs)}
    return Guest(case.mode, bytes.fromhex(case.code), cpl=3, regs=regs)


def _exits(machine: Machine, case: Case) -> list[object]:
    """Each exit with RIP at that moment, and how the guest ended."""
    guest = _guest(case)
    vcpu = guest.load(machine)
    if machine.capability("KVM_CAP_EXIT_ON_EMULATION_FAILURE"):
        machine.enable("KVM_CAP_EXIT_ON_EMULATION_FAILURE", 1)
    found: list[object] = []
    for _ in range(MOST_EXITS):
        ended: Exit = vcpu.run(timeout=PATIENCE)
        if isinstance(ended, Mmio):
            found.append((ended, vcpu.get_regs().rip))
            if not ended.is_write:
                vcpu.complete(bytes(range(1, ended.len + 1)))
        elif isinstance(ended, Io):
            found.append((ended, vcpu.get_regs().rip))
        else:
            return [*found, _ending(case, machine, vcpu, ended)]
    return found


def _ending(case: Case, machine: Machine, vcpu: Vcpu, ended: Exit) -> object:
    regs = vcpu.get_regs()
    if isinstance(ended, InternalError):
        return ended.suberror, ended.ndata, ended.words, regs.rip
    fault = _guest(case).fault(machine, vcpu)
    if fault is not None:
        fault = replace(fault, rflags=fault.rflags & ~case.undefined)
    general = tuple(getattr(regs, name) for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rip"))
    return ended, fault, general


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_exits(case: Case, machine: KvmMachine, vendor: Vendor) -> None:
    """Direction, address, size, data and order of every exit, RIP at each, the registers at the end."""
    real = _exits(machine, case)
    with Model(platform.release(), vendor) as model:
        modelled = _exits(model, case)
    if vendor != "pvm":
        real, modelled = ([_without_words(one) for one in exits] for exits in (real, modelled))
    if vendor == "pvm" and case.name in KNOWN:
        assert modelled != real, f"no longer so: {KNOWN[case.name]}"
        return
    assert modelled == real
    assert not any(isinstance(one, tuple) and one and isinstance(one[0], TimedOut | Shutdown) for one in real)


def _without_words(one: object) -> object:
    """A failure without the words that are the CPU's own."""
    if isinstance(one, tuple) and len(one) == 4 and isinstance(one[2], tuple):
        return (*one[:2], one[2][:-SKIPPED_WORDS], one[3])
    return one


def test_the_words_of_kvm_pvm_name_the_privilege_level(vendor: Vendor) -> None:
    """Measured on 6.18: 0x1000 at CPL 0, 0x2000 at CPL 3, and zeros; whether it is so here shows above."""
    for cpl, reason in ((0, 0x1000), (3, 0x2000)):
        with Model("6.18", "pvm") as model:
            found = Guest("long64", bytes.fromhex("ff e3"), cpl=cpl, regs={"rbx": HOLE}).load(model).run()
        assert isinstance(found, InternalError)
        assert found.words == (0, reason, 0, 0, 0, 0), vendor

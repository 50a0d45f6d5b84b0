"""probe.judge and probe.compare: what a probe came to, what it means, and when a result is wrong."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from kvmwhy.machine.x86.state import Regs, replace
from kvmwhy.probe.classify import judge, prefer, vector_at
from kvmwhy.probe.compare import Left, differs
from kvmwhy.probe.encodings import form_of
from kvmwhy.probe.guest import HANDLERS, RAM_SIZE, template, xsave_area
from kvmwhy.probe.sweep_format import DIFFERS, MAGIC, Probe, Raw, pack, parse, parse_all, plan, probes_of

MOV = form_of(bytes.fromhex("8b 13"), "long64")
BEHIND = 0x400109
SREGS = template("long64", "bx", "stale").sregs


def raw(reason: int = 5, at: int = BEHIND, **values: object) -> Raw:
    rest = {"suberror": 0, "ndata": 0, "fetched": 0, "accesses": "r4", "native_reason": 5, "native_at": at}
    return Raw(**{"reason": reason, "at": at, **rest, "differs": 0, "differs_other": 0, **values})  # type: ignore[arg-type]


def left(**values: Any) -> Left:
    state = Left(BEHIND, Regs(rax=1), SREGS, SREGS, xsave_area(), b"operand", b"memory")
    return state._replace(**values)


def test_same() -> None:
    """Two runs that left the same behind do not differ; RF in RFLAGS is what a restart leaves."""
    assert differs(left(), left()) == 0
    assert differs(left(regs=Regs(rflags=0x10002)), left(regs=Regs())) == 0


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"regs": Regs(rax=2)}, "rax"),
        ({"regs": Regs(rax=1, r15=7)}, "r15"),
        ({"regs": Regs(rax=1, rflags=3)}, "flags"),
        ({"at": 7}, "end"),
        ({"operand": b"OPERAND"}, "operand"),
        ({"memory": b"MEMORY"}, "memory"),
        ({"sregs": replace(SREGS, cr2=1)}, "control"),
        ({"xsave": xsave_area()[:160] + b"\xff" + xsave_area()[161:]}, "xmm"),
        ({"xsave": xsave_area()[:576] + b"\xff" + xsave_area()[577:]}, "ymm"),
        ({"xsave": xsave_area()[:32] + b"\xff" + xsave_area()[33:]}, "x87"),
        ({"xsave": xsave_area()[:24] + b"\xff" + xsave_area()[25:]}, "mxcsr"),
    ],
)
def test_differs(change: dict[str, object], what: str) -> None:
    """Each part of the state is compared, and named."""
    assert differs(left(**change), left()) == 1 << DIFFERS.index(what)


def test_moved_segments_do_not_count() -> None:
    """In real mode the two runs have other bases from the start; only what the instruction changed counts."""
    here = SREGS
    there = replace(here, ds=replace(here.ds, base=0xC000))
    assert differs(left(sregs=here, start=here), left(sregs=there, start=there)) == 0
    loaded = replace(here, ds=replace(here.ds, base=0x10))
    assert differs(left(sregs=loaded, start=here), left(sregs=there, start=there)) == 1 << DIFFERS.index("segments")


def test_wrongly_emulated() -> None:
    """A handler whose result is not the CPU's is carried out, and wrong, with either value of the operand."""
    flags = 1 << DIFFERS.index("flags")
    assert judge(MOV, raw()).compared == "same"
    assert judge(MOV, raw(differs=flags)).wrong == ("flags",)
    assert judge(MOV, raw(differs_other=flags)).compared == "wrong"
    assert judge(MOV, raw(differs=-1, differs_other=-1)).compared == "same"
    bsf = form_of(bytes.fromhex("0f bc 13"), "long64")
    assert judge(bsf, raw(differs_other=flags)).compared == "same"  # undefined for 0
    rdtsc = form_of(bytes.fromhex("0f 31"), "long64")
    assert judge(rdtsc, raw(differs=1)).compared == "no"


def test_kinds() -> None:
    """Each end of a run has its verdict."""
    assert judge(MOV, raw(17, suberror=1, ndata=8, fetched=15))[:4] == ("fails", 1, 8, 15)
    assert judge(MOV, raw(-errno.EINTR)).kind == "no-exit"
    assert judge(MOV, raw(-1000)).kind == "endless"
    assert judge(MOV, raw(-errno.EPERM)).kind == "refused"
    assert judge(MOV, raw(-errno.EIO))[:2] == ("error", errno.EIO)
    assert judge(MOV, raw(8)).kind == "shutdown"
    assert judge(MOV, raw(24))[:2] == ("exit", 24)


def test_exceptions() -> None:
    """The handler that a guest halts in names the exception; one that the CPU gives as well is no fault of KVM's."""
    ud, gp = HANDLERS + 6 * 16 + 1, HANDLERS + 13 * 16 + 1
    assert (vector_at(ud), vector_at(gp), vector_at(BEHIND)) == (6, 13, None)
    assert judge(MOV, raw(at=ud)).compared == "same"
    assert judge(MOV, raw(at=ud, native_at=BEHIND)).wrong == ("exception",)
    # The CPU lacks the instruction: there is nothing to compare with.
    assert judge(MOV, raw(native_at=ud)).compared == "no"
    int3 = form_of(b"\xcc", "real16")._replace(vector=3)
    assert judge(int3, raw(at=HANDLERS + 3 * 16 + 1)).kind == "emulated"


def test_real_mode_has_two_answers() -> None:
    """A failure seen as the CPU comes to it says more than forced emulation's #UD."""
    fails = judge(MOV, raw(17, suberror=1, accesses=""))
    ud = judge(MOV, raw(at=HANDLERS + 97, accesses="", native_at=BEHIND))
    done, untouched = judge(MOV, raw()), judge(MOV, raw(accesses=""))
    assert prefer(fails, ud) is fails
    assert prefer(done, ud) is done
    assert prefer(untouched, ud) is ud  # the CPU did it by itself


def test_lines_of_the_sweep() -> None:
    """What sweep.c prints is read; what is torn is left out."""
    line = b"7 17 400106 1 8 15 - 0 0 -1 -1"
    found = parse(line)
    assert found is not None
    assert found[0] == 7
    assert judge(MOV, found[1])[:4] == ("fails", 1, 8, 15)
    assert parse(b"7 5 400109 0 0 0 r4w4 5 400109 0 131072") == (7, raw(accesses="r4w4", differs_other=131072))
    assert parse_all([b"", b"sweep: x", b"1 2 3", line[:-1] + b"x", line]) == dict([found])


def test_batch() -> None:
    """A batch is its head, the FPU, templates, values and probes, and no more."""
    forms = [MOV, form_of(b"\xab", "real16"), form_of(b"\x0f\x58\xc8", "prot16")]
    probes = probes_of(forms)
    assert [probe.technique for probe in probes] == ["stale", "plain", "forced", "stale"]
    data = pack(probes)
    assert data.startswith(MAGIC)
    templates, values, count = (int.from_bytes(data[8 + 4 * n : 12 + 4 * n], "little") for n in range(3))
    assert count == 4
    assert len(data) == 32 + 4096 + templates * (16 + 144 + 312 + RAM_SIZE + 8) + 64 * values + 24 * count


def test_guests() -> None:
    """The operand is in the device, or in RAM at the same pointer; the stale page ends in a load from it."""
    made = plan(Probe(MOV, "stale"))
    assert made.asked.data_at is None
    assert made.native.data_at == 0xC100
    assert made.asked.regs.rbx == made.native.regs.rbx == 0x401100
    assert made.asked.ram[0xA106:0xA108] == bytes.fromhex("8b 03")
    assert made.asked.ram[0x1106:0x110E] == b"\xf4" * 8
    assert template("real16", "bx", "forced").ram[0x1101:0x1106] == bytes.fromhex("0f 0b 6b 76 6d")

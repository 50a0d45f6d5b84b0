"""The dump of qemu-kvm 0.12: lower case, segments spelt out, wrapped as mail wraps it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.readers import read
from kvmwhy.readers.qemu.qemu_kvm_dump import find_old_dumps

LOG = """\
KVM internal error.Suberror: 1
emulation failure, check dmesg for details
rax 0000000000000001 rbx 0000000000000002 rcx 0000000000000003 rdx
0000000000000004
rsi 0000000000000005 rdi 0000000000000006 rsp 0000000000007000 rbp 0000000000000000
r8  0000000000000008 r9  0000000000000009 r10 000000000000000a r11 000000000000000b
r12 000000000000000c r13 000000000000000d r14 000000000000000e r15 000000000000000f
rip 00000000003d721c rflags 00010006
cs 0008 (00000000/ffffffff p 1 dpl 0 db 0 s 1 type b l 1 g 1 avl 0)
ds 0010 (00000000/ffffffff p 1 dpl 3 db 1 s 1 type 3 l 0 g 1 avl 1)
tr 0000 (00000000/0000ffff p 1 dpl 0 db 0 s 0 type b l 0 g 0 avl 0)
gdt a25000/1f
idt 0/3ff
cr0 80010011 cr2 0 cr3 eae000 cr4 7b8 cr8 0 efer d00
code: 90 90 --> d9 03 f4
"""


def test_every_value_is_read() -> None:
    """Registers, hidden parts of segments, tables, code and its mark, and CPL from CS."""
    (failure,) = read(LOG.encode()).failures
    assert (failure.kind, failure.suberror, failure.ndata) == ("internal-error", 1, 0)
    cpu = failure.cpu
    assert cpu is not None
    assert (cpu.get("rdx"), cpu.get("r15"), cpu.get("rip"), cpu.get("efer")) == (4, 15, 0x3D721C, 0xD00)
    assert cpu.cpl == 0
    cs, ds = cpu.segments["cs"], cpu.segments["ds"]
    assert (cs.selector, cs.limit, cs.long, cs.granular, cs.type) == (8, 0xFFFFFFFF, True, True, 0xB)
    assert (ds.dpl, ds.big, ds.attributes >> 20 & 1) == (3, True, 1)
    assert (cpu.segments["gdt"].base, cpu.segments["idt"].limit) == (0xA25000, 0x3FF)
    assert failure.code is not None
    assert failure.code.at_rip() == b"\xd9\x03\xf4"


def test_two_dumps_are_two() -> None:
    """Each dump ends where the next begins."""
    other = LOG.replace("3d721c", "3d7220")
    assert [f.cpu.get("rip") for f in read((LOG + other).encode()).failures if f.cpu] == [0x3D721C, 0x3D7220]


@given(st.integers(0, len(LOG)))
def test_cut_anywhere(at: int) -> None:
    """A cut dump gives values that are the whole one's, or none."""
    whole = find_old_dumps(LOG)[0].cpu
    for dump in find_old_dumps(LOG[:at]):
        for name, value in dump.cpu.registers.items():
            if name not in {"cr2", "cr3", "cr4", "efer", "cr0", "rflags"}:  # these are printed without leading zeros
                assert whole.registers[name] == value

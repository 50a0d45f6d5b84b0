"""Register dumps of VMMs other than QEMU: each form as its source prints it, and each with the failure it stands by."""

from __future__ import annotations

import pytest

from kvmwhy.readers import read
from kvmwhy.record import Cpu, Failure, Segment

INTERNAL = "KVM_EXIT_INTERNAL_ERROR: suberror = 0x1\n"


def one(text: str) -> Failure:
    (failure,) = read(text.encode()).failures
    return failure


def cpu_of(text: str) -> Cpu:
    cpu = one(text).cpu
    assert cpu
    return cpu


KVMTOOL = """\
  Error: KVM exit reason: 17 ("KVM_EXIT_INTERNAL_ERROR")

 Registers:
 ----------
 rip: 000000000000e05b   rsp: 0000000000006f10 flags: 0000000000000046
 rax: 0000000000000000   rbx: 0000000000000001   rcx: 0000000000000002
 rdx: 0000000000000600   rsi: 0000000000000000   rdi: 00000000000000a8
 rbp: 0000000000000000    r8: 0000000000000000    r9: 0000000000000000
 r10: 0000000000000000   r11: 0000000000000000   r12: 0000000000000000
 r13: 0000000000000000   r14: 0000000000000000   r15: 00000000000000ff
 cr0: 0000000060000010   cr2: 0000000000000000   cr3: 0000000000000000
 cr4: 0000000000000000   cr8: 0000000000000000

 Segment registers:
 ------------------
 register  selector  base              limit     type  p dpl db s l g avl
 cs        f000      00000000000f0000  0000ffff  1b    1 0   0  1 0 0 0
 ss        1000      0000000000010000  0000ffff  03    1 0   0  1 0 0 0
 gdt                 0000000000000000  0000ffff

 APIC:
 -----
 efer: 0000000000000d01  apic base: 00000000fee00900  nmi: disabled

 Interrupt bitmap:
 -----------------
 0000000000000000 0000000000000000 0000000000000000 0000000000000000

 Code:
 -----
{symbol} 2e 66 <83> 3e c8 61 00

 Stack:
 ------
 rsp: [<0000000000006f10>]
 0x00006f10: 11 22 33 44 55 66 77 88

 Page Tables:
 ------
 pte4: 0000000001000063  pte3: 0000000001001063   pte2: 0000000001002063   pte1: 0000000000000000
"""


@pytest.mark.parametrize("symbol", ["", " rip: [<000000000000e05b>] <unknown>\n\n"])
def test_kvmtool(symbol: str) -> None:
    """x86/kvm-cpu.c: registers, segments, and the code behind the symbol's line and a blank one, if they are there."""
    failure = one(KVMTOOL.format(symbol=symbol))
    assert failure.cpu
    registers = failure.cpu.registers
    assert (registers["rip"], registers["rsp"], registers["rflags"], registers["r15"]) == (0xE05B, 0x6F10, 0x46, 0xFF)
    assert (registers["cr0"], registers["efer"]) == (0x60000010, 0xD01)
    assert failure.cpu.segments["cs"] == Segment(0xF000, 0xF0000, 0xFFFF, 0x9B00)
    assert failure.cpu.segments["gdt"] == Segment(0, 0, 0xFFFF, 0)
    assert failure.code
    assert failure.code.at_rip() == bytes.fromhex("833ec86100")
    assert failure.arch == "x86"


def test_uhyve() -> None:
    """src/linux/x86_64/kvm_cpu.rs: print_registers comes before the panic; segments are Debug of kvm_segment."""
    failure = one(
        "Dump state of CPU 1\n\nRegisters:\n----------\n"
        "rax:               0x10       r8:                0x0   cr0:         0x80010033\n"
        "rdi:                0x0      r13:                0x0   efer:             0xd01\n"
        "rsp:             0x7fe8      r14:                0x0\n"
        "rip:           0x200010   rflags:            0x10002\n\nSegment registers:\n------------------\n"
        "register  selector  base              limit     type  p dpl db s l g avl\n"
        "cs        kvm_segment { base: 0, limit: 4294967295, selector: 8, type_: 11, present: 1, dpl: 0, db: 0, s: 1,"
        " l: 1, g: 1, avl: 0, unusable: 0, padding: 0 }\n"
        "gtd: kvm_dtable { base: 1000, limit: ff, padding: [0, 0, 0] }\n\n"
        "thread '<unnamed>' (22523) panicked at src/linux/x86_64/kvm_cpu.rs:624:7:\nInternalError\n"
    )
    assert (failure.kind, failure.source.vcpu, failure.source.vmm) == ("internal-error", 1, "uhyve")
    assert failure.cpu
    assert (failure.cpu.registers["rip"], failure.cpu.registers["efer"]) == (0x200010, 0xD01)
    assert failure.cpu.segments["cs"] == Segment(8, 0, 0xFFFFFFFF, 0xA09B00)
    assert failure.cpu.segments["gdt"] == Segment(0, 0x1000, 0xFF, 0)


def test_km() -> None:
    """km/km_vcpu_run.c: capitals with 0x, eight bytes at RIP, a segment in two lines; the number comes last."""
    failure = one(
        "km: KVM_EXIT_FAIL_ENTRY\n== KVM_GET_REGS ==\n"
        "RAX: 0x5affa890         RBX: 0x0                RCX: 0x0                RDX: 0xfbfe\n"
        "R8:  0x11cebd2          R9:  0x7fffe32323b0     R10: 0x0                R11: 0x1\n"
        "RIP: 0x7fffff5c5f40     RFLAGS: 0x46\n"
        "0x7fffff5c5f40    : 0x55 0x48 0x89 0xe5 0x41 0x57 0x41 0x56\n== KVM_GET_SREGS ==\n"
        "CS  base: 0x7fffeed269c6     limit:0xfffffff selector: 0x8 type: 0xb present: 0x1\n"
        "    dpl:0x0 db:0x0 s:0x1 l:0x1 g:0x1 avl:0x0 unusable:0x0\n"
        "GDT base: 0x1000 limit: 0x7f\nCR0: 0x80050033 CR2: 0x0 CR3: 0x1000 CR4: 0x20 CR8: 0x0\n"
        "EFER: 0xd01 APIC_BASE: 0xfee00900c\nKVM: fail entry 0x80000021\n"
    )
    assert (failure.hardware_error, failure.source.line) == (0x80000021, 1)
    assert failure.cpu
    assert (failure.cpu.registers["r9"], failure.cpu.registers["efer"]) == (0x7FFFE32323B0, 0xD01)
    assert failure.cpu.segments["cs"] == Segment(8, 0x7FFFEED269C6, 0xFFFFFFF, 0xA09B00)
    assert failure.code
    assert failure.code.at_rip() == bytes.fromhex("554889e541574156")


@pytest.mark.parametrize(("printed", "kind"), [("011", 11), ("0xb", 11), ("0", 0)])
def test_padded_numbers_are_decimal(printed: str, kind: int) -> None:
    """printf pads with zeros, and C would read octal: neither an error nor another number comes of it."""
    failure = one(
        "km: KVM_EXIT_FAIL_ENTRY\n== KVM_GET_REGS ==\n"
        "RAX: 0x5affa890         RBX: 0x0                RCX: 0x0                RDX: 0xfbfe\n"
        "R8:  0x11cebd2          R9:  0x7fffe32323b0     R10: 0x0                R11: 0x1\n"
        "RIP: 0x7fffff5c5f40     RFLAGS: 0x46\n== KVM_GET_SREGS ==\n"
        f"CS  base: 0x0     limit:0xfffffff selector: 0x8 type: {printed} present: 0x1\n"
        "    dpl:0x0 db:0x0 s:0x1 l:0x1 g:0x1 avl:0x0 unusable:0x0\n"
    )
    assert failure.cpu
    assert failure.cpu.segments["cs"].type == kind


def test_opendcdiag() -> None:
    """framework/sysdeps/linux/kvm.c: the type in letters, R-Xa for code that was run."""
    cpu = cpu_of(
        "Unexpected exit reason: 17.\nRegister dump:\n"
        " rax = 0x0000000000000001 rbx = 0x0000000000000002 rcx = 0x0000000000000000 rdx = 0x0000000000000000\n"
        " rip = 0x0000000000001000 rflags = 0x0000000000000002 []\n"
        " cs  = 0x0008 base = 0x0000000000000000 limit = 0x000fffff s=1 type=R-Xa dpl=0 db=0 g=1 l=1 present\n"
        " ds  = 0x0010 base = 0x0000000000000000 limit = 0x000fffff s=1 type=RW-a dpl=0 db=1 g=1 l=0 present\n"
        " cr0 = 0x80050033 cr2 = 0 cr3 = 0x0000000000001000 cr4 = 0x00000020 efer = 0xd01 xcr0 = 0x000007\n"
        " gdt: base = 0x0000000000000500 limit = 0x0017\n"
    )
    assert (cpu.registers["rip"], cpu.registers["cr4"]) == (0x1000, 0x20)
    assert cpu.segments["cs"] == Segment(8, 0, 0xFFFFF, 0xA09B00)
    assert cpu.segments["ds"] == Segment(0x10, 0, 0xFFFFF, 0xC09300)
    assert cpu.segments["gdt"] == Segment(0, 0x500, 0x17, 0)


def test_gdb() -> None:
    """``info registers`` of gdb: one register a line, twice."""
    cpu = cpu_of(
        INTERNAL + "rax            0x1                 1\nrbx            0x0                 0\n"
        "rip            0xfff0              0xfff0 <start+16>\neflags         0x2                 [ ]\n"
        "cs             0xf000              61440\ncr0            0x60000010          [ CD NW ET ]\n"
    )
    assert {n: cpu.registers[n] for n in ("rax", "rip", "rflags", "cr0")} == {
        "rax": 1,
        "rip": 0xFFF0,
        "rflags": 2,
        "cr0": 0x60000010,
    }


# ruff: noqa: E501  one struct is one line
RUST = """\
Unexpected exit reason on vcpu run: InternalError
{regs} {{ rax: 0, rbx: 3489660928, rcx: 0, rdx: 0, rsi: 0, rdi: 0, rsp: 0, rbp: 0, r8: 0, r9: 0, r10: 0, r11: 0,\
 r12: 0, r13: 0, r14: 0, r15: 18446744073709551615, rip: 32902, rflags: 2 }}
{sregs} {{ cs: {segment} {{ base: 0, {limit}: 4294967295, selector: 8, type_: 11, present: 1, dpl: 0, db: 0, s: 1, l: 1,\
 g: 1, avl: 0, unusable: 0, padding: 0 }}, gdt: {table} {{ base: 4096, limit: 31, padding: [0, 0, 0] }}, cr0: 2147483649,\
 cr2: 0, cr3: 36864, cr4: 32, cr8: 0, efer: 1280, apic_base: 4276095232, interrupt_bitmap: [0, 0, 0, 0] }}
"""


@pytest.mark.parametrize(
    "names",
    [
        {"regs": "kvm_regs", "sregs": "kvm_sregs", "segment": "kvm_segment", "limit": "limit", "table": "kvm_dtable"},
        {"regs": "Regs", "sregs": "Sregs", "segment": "Segment", "limit": "limit_bytes", "table": "DescriptorTable"},
        {
            "regs": "CommonRegisters",
            "sregs": "CommonSpecialRegisters",
            "segment": "CommonSegmentRegister",
            "limit": "limit",
            "table": "CommonTableRegister",
        },
    ],
    ids=["kvm-bindings", "crosvm", "hyperlight"],
)
@pytest.mark.parametrize("pretty", [False, True])
def test_debug_of_rusts_structs(names: dict[str, str], pretty: bool) -> None:
    """Decimal numbers, on one line as ``{:?}`` prints them or on many as ``{:#?}`` does."""
    text = RUST.format(**names)
    if pretty:
        text = text.replace("{ ", "{\n    ").replace(", ", ",\n    ").replace(" }", ",\n}")
    cpu = cpu_of(text)
    assert cpu.registers["rbx"] == 0xD0000000
    assert (cpu.registers["rip"], cpu.registers["efer"], cpu.registers["cr3"]) == (0x8086, 0x500, 0x9000)
    assert cpu.segments["cs"] == Segment(8, 0, 0xFFFFFFFF, 0xA09B00)
    assert cpu.segments["gdt"] == Segment(0, 0x1000, 0x1F, 0)


def test_a_struct_in_hexadecimal_without_0x() -> None:
    """``{:x?}`` prints no 0x: one letter among the digits tells that all of them are hexadecimal."""
    cpu = cpu_of(
        INTERNAL + "kvm_regs { rax: 10, rbx: ff, rcx: 0, rdx: 0, rsi: 0, rdi: 0, rsp: 0, rip: 1000, rflags: 2 }"
    )
    assert (cpu.registers["rax"], cpu.registers["rip"]) == (0x10, 0x1000)


def test_a_struct_that_is_cut_keeps_what_is_whole() -> None:
    """The input ends inside of the registers: the torn one is absent, and the damage says so."""
    failure = one(
        "<vcpu0> ERROR:vmm/src/cpu.rs:979 -- VCPU generated error: VcpuRun(Failed to run vcpu: VCPU error regs"
        " Ok(kvm_regs { rax: 1, rbx: 2, rcx: 3, rdx: 4, rsi: 5, rdi: 6, rsp: 7, rbp: 8, r8: 9, rip"
    )
    assert failure.kind == "run-error"
    assert failure.cpu
    assert failure.cpu.registers["r8"] == 9
    assert "rip" not in failure.cpu.registers
    assert failure.damage == ("the register dump is cut",)


def test_gos_struct() -> None:
    """gVisor's registers: capitals, decimal, spaces between the fields."""
    cpu = cpu_of(
        "unexpected shutdown exit:  0000000000000000\nD0101 task faulted Regs:{PtraceRegs:{R15:0 R14:0 R13:0 R12:0 Rbp:0"
        " Rbx:0 R11:518 R10:0 R9:0 R8:0 Rax:1 Rcx:2 Rdx:3 Rsi:4 Rdi:5 Orig_rax:18446744073709551615 Rip:94576345743666"
        " Cs:51 Eflags:518 Rsp:140737488346112 Ss:43 Fs_base:0 Gs_base:0 Ds:0 Es:0 Fs:0 Gs:0}}\n"
    )
    assert (cpu.registers["rip"], cpu.registers["rflags"], cpu.registers["rax"]) == (94576345743666, 0x206, 1)


def test_registers_go_to_the_failure_they_stand_by() -> None:
    """Two failures, each followed by its own dump; the third has none."""
    dump = "RAX: {0} RBX: 0x0 RCX: 0x0 RDX: 0x0\nRIP: {0} RFLAGS: 0x2\n"
    text = (
        "VCPU 0: KVM_EXIT_INTERNAL_ERROR (suberror: 0x1)\n"
        + dump.format("0x1000")
        + "VCPU 1: KVM_EXIT_INTERNAL_ERROR (suberror: 0x3)\n"
        + dump.format("0x2000")
        + "nothing\n" * 100
        + "VCPU 2: KVM_EXIT_INTERNAL_ERROR (suberror: 0x4)\n"
    )
    failures = read(text.encode()).failures
    assert [f.cpu.registers["rip"] if f.cpu else None for f in failures] == [0x1000, 0x2000, None]


def test_an_oops_of_the_kernel_is_no_guest() -> None:
    """A host's oops prints the same names in capitals, without 0x: they are the host's registers."""
    failure = one(
        INTERNAL
        + "RIP: 0010:kvm_mmu_load+0x407/0x420\nRAX: ffff936ee4fd8420 RBX: ffff936ee4fd8000 RCX: 0000000000000000\n"
        "CR2: 0000000000fdd298 CR3: 0000000263c74004 CR4: 00000000003626e0\n"
    )
    assert failure.cpu is None


ARM64 = """\
  Error: KVM exit reason: 17 ("KVM_EXIT_INTERNAL_ERROR")

 Registers:
 PC:    0xffff800080a95ed0
 PSTATE:    0x600000c5
 SP_EL1:    0xffff800080003e00
 LR:    0xffff800080a95ec0

*pc:
 0x80a95ed0: e0 03 1f aa  c0 03 5f d6
 0x80a95ed8: 00 00 00 00  00 00 00 00

*lr:
 0x80a95ec0: 11 11 11 11  22 22 22 22
"""
RISCV64 = """\
  Error: KVM exit reason: 17 ("KVM_EXIT_INTERNAL_ERROR")

 General Purpose Registers:
 -------------------------
 MODE:  0x1
 PC: 0x0000000080200000   RA: 0x0000000000000001 SP: 0x0000000000000002 GP: 0x0000000000000003

 Control Status Registers:
 ------------------------
 SSTATUS:  0x0000000200000120
 SATP:     0x8000000000080000
"""
PPC64 = """\
  Error: KVM exit reason: 0 ("KVM_EXIT_UNKNOWN")
  Error: KVM exit code: 49

 Registers:
 NIP:   c000000000028d50  MSR:   8000000000001033 ( SF ME IR DR RI LE)
 CTR:   0000000000000000  LR:    c000000000028d40  CR:   24000282
"""


@pytest.mark.parametrize(
    ("text", "arch", "shown"),
    [
        (ARM64, "arm64", {"pc": 0xFFFF_8000_80A9_5ED0, "pstate": 0x6000_00C5, "x30": 0xFFFF_8000_80A9_5EC0}),
        (RISCV64, "riscv64", {"pc": 0x8020_0000, "ra": 1, "satp": 0x8000_0000_0008_0000}),
        (PPC64, "ppc64", {"nip": 0xC000_0000_0002_8D50, "msr": 0x8000_0000_0000_1033, "lr": 0xC000_0000_0002_8D40}),
    ],
    ids=["arm64", "riscv64", "ppc64"],
)
def test_kvmtool_of_other_architectures(text: str, arch: str, shown: dict[str, int]) -> None:
    failure = one(text)
    assert failure.cpu
    assert failure.arch == arch
    assert shown.items() <= failure.cpu.registers.items()
    at_pc = failure.code.at_rip() if failure.code else b""
    assert at_pc == (bytes.fromhex("e0031faa c0035fd6") + bytes(8) if arch == "arm64" else b"")

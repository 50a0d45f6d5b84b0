"""QEMU's register dumps of other architectures, printed here by the format strings of its target/*/cpu.c."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read
from kvmwhy.record import Failure

u64 = st.integers(0, (1 << 64) - 1)
MINUS_22 = (1 << 64) - 22
BANNER = "error: kvm run failed Bad address\n"


def columns(cells: list[str], each: int) -> str:
    """``each`` cells a line."""
    lines = [" ".join(cells[n : n + each]) for n in range(0, len(cells), each)]
    return "\n".join(lines) + "\n"


def arm64(values: list[int]) -> tuple[str, dict[str, int]]:
    """target/arm/cpu.c: aarch64_cpu_dump_state, since 4.2: PC, then X00 to X30, three a line, and SP."""
    pc, sp, *xs = values[:33]
    cells = [f"PC={pc:016x}", *(f"X{n:02}={x:016x}" for n, x in enumerate(xs)), f" SP={sp:016x}"]
    lines = columns(cells, 3)
    registers = {"pc": pc, "sp": sp, "pstate": 0x600003C5} | {f"x{n}": x for n, x in enumerate(xs)}
    return f" {lines}PSTATE=600003c5 -ZC- EL1h  BTYPE=0\n", registers


def arm64_until_4_1(values: list[int]) -> tuple[str, dict[str, int]]:
    """The same function before: PC and SP, then four registers a line."""
    pc, sp, *xs = values[:33]
    lines = columns([f"X{n:02}={x:016x}" for n, x in enumerate(xs)], 4)
    registers = {"pc": pc, "sp": sp, "pstate": 0x3C5} | {f"x{n}": x for n, x in enumerate(xs)}
    return f"PC={pc:016x}  SP={sp:016x}\n{lines}PSTATE=000003c5 ---- EL1h\n", registers


def arm32(values: list[int]) -> tuple[str, dict[str, int]]:
    """target/arm/cpu.c: arm_cpu_dump_state, four a line."""
    rs = [value & 0xFFFFFFFF for value in values[:16]]
    lines = columns([f"R{n:02}={r:08x}" for n, r in enumerate(rs)], 4)
    names = [*(f"r{n}" for n in range(13)), "sp", "lr", "pc"]
    return f"{lines}PSR=600001d3 -ZC- A S svc32\n", dict(zip(names, rs, strict=True)) | {"psr": 0x600001D3}


def s390x(values: list[int]) -> tuple[str, dict[str, int]]:
    """target/s390x/cpu-dump.c: s390_cpu_dump_state under KVM."""
    mask, addr = values[:2]
    rs, cs = values[2:18], values[18:34]
    text = f"PSW=mask {mask:016x} addr {addr:016x}\n"
    text += columns([f"R{n:02}={r:016x}" for n, r in enumerate(rs)], 4)
    text += columns([f"C{n:02}={c:016x}" for n, c in enumerate(cs)], 4)
    registers = {"psw_mask": mask, "psw_addr": addr}
    registers |= {f"r{n}": r for n, r in enumerate(rs)} | {f"c{n}": c for n, c in enumerate(cs)}
    return text, registers


def ppc64(values: list[int]) -> tuple[str, dict[str, int]]:
    """target/ppc/cpu_init.c: ppc_cpu_dump_state."""
    nip, lr, ctr, xer, msr = values[:5]
    gprs = values[5:37]
    text = f"NIP {nip:016x}   LR {lr:016x} CTR {ctr:016x} XER {xer:016x} CPU#3\n"
    text += f"MSR {msr:016x} HID0 {0:016x}  HF 6c000000 iidx 3 didx 3\nTB 00000000 00000000 DECR 0\n"
    for n in range(0, 32, 4):
        text += f"GPR{n:02} {' '.join(f'{r:016x}' for r in gprs[n : n + 4])}\n"
    text += "CR 48000424  [ G  L  -  -  -  G  E  G  ]     RES 000@ffffffffffffffff\n"
    text += f" SRR0 {nip:016x}  SRR1 {msr:016x}    PVR 00000000004e1202 VRSAVE 0000000000000000\n"
    registers = {"nip": nip, "lr": lr, "ctr": ctr, "xer": xer, "msr": msr, "hid0": 0, "hf": 0x6C000000}
    registers |= {f"r{n}": r for n, r in enumerate(gprs)}
    return text, registers | {"cr": 0x48000424, "srr0": nip, "srr1": msr, "pvr": 0x4E1202, "vrsave": 0}


RISCV = (
    "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6".split()  # noqa: SIM905
)


def riscv64(values: list[int]) -> tuple[str, dict[str, int]]:
    """target/riscv/cpu.c: riscv_cpu_dump_state."""
    pc, mstatus, satp = values[:3]
    gprs = values[3:35]
    text = f" V      =   0\n pc       {pc:016x}\n mhartid  {0:016x}\n mstatus  {mstatus:016x}\n satp     {satp:016x}\n"
    cells = [f" {f'x{n}/{RISCV[n]}':<8} {value:016x}" for n, value in enumerate(gprs)]
    text += "\n".join("".join(cells[n : n + 4]) for n in range(0, 32, 4)) + "\n"
    registers = {"pc": pc, "mhartid": 0, "mstatus": mstatus, "satp": satp}
    return text, registers | dict(zip(RISCV, gprs, strict=True))


def loongarch(values: list[int]) -> tuple[str, dict[str, int]]:
    """target/loongarch/cpu.c: loongarch_cpu_dump_state, of 2024."""
    pc, crmd, *_ = values
    gprs = values[2:34]
    text = f" PC={pc:016x}  FCSR0 0x00000000\n"
    for n in range(0, 32, 4):
        text += f" GPR{n:02}:" + "".join(f" r{n + i} {gprs[n + i]:016x}" for i in range(4)) + "\n"
    return text + f"CRMD={crmd:016x}\n", {"pc": pc, "crmd": crmd} | {f"r{n}": r for n, r in enumerate(gprs)}


MIPS = "r0 at v0 v1 a0 a1 a2 a3 t0 t1 t2 t3 t4 t5 t6 t7 s0 s1 s2 s3 s4 s5 s6 s7 t8 t9 k0 k1 gp sp s8 ra".split()  # noqa: SIM905


def mips(values: list[int]) -> tuple[str, dict[str, int]]:
    """target/mips/cpu.c: mips_cpu_dump_state."""
    pc, hi, lo, epc = values[:4]
    gprs = values[4:36]
    text = f"pc=0x{pc:016x} HI=0x{hi:016x} LO=0x{lo:016x} ds 0000 {0:016x} 0\n"
    for n in range(0, 32, 4):
        text += f"GPR{n:02}:" + "".join(f" {MIPS[n + i]} {gprs[n + i]:016x}" for i in range(4)) + "\n"
    text += f"CP0 Status  0x00400004 Cause   0x00000000 EPC    0x{epc:016x}\n"
    registers = {"pc": pc, "hi": hi, "lo": lo, "cp0_status": 0x400004, "cp0_cause": 0, "cp0_epc": epc}
    return text, registers | dict(zip(MIPS, gprs, strict=True))


FORMS = {
    "arm64": (arm64, "arm64"),
    "arm64 of 4.1": (arm64_until_4_1, "arm64"),
    "AArch32": (arm32, "arm64"),
    "s390x": (s390x, "s390x"),
    "ppc64": (ppc64, "ppc64"),
    "riscv64": (riscv64, "riscv64"),
    "loongarch": (loongarch, "loongarch"),
    "mips": (mips, "mips"),
}
forms = pytest.mark.parametrize("form", FORMS)
dumped = st.lists(u64, min_size=40, max_size=40)


def one(text: str) -> Failure:
    (failure,) = read(text.encode()).failures
    return failure


@forms
@settings(max_examples=15)
@given(values=dumped)
def test_every_register_comes_back_under_its_own_name(form: str, values: list[int]) -> None:
    """All values, the architecture, and no word of damage."""
    printer, arch = FORMS[form]
    text, registers = printer(values)
    failure = one(BANNER + text)
    assert (failure.kind, failure.errno, failure.arch) == ("run-error", "EFAULT", arch)
    assert failure.cpu is not None
    assert failure.cpu.registers == registers
    assert failure.cpu.segments == {}
    assert failure.damage == ()


@forms
@settings(max_examples=15)
@given(values=dumped, data=st.data())
def test_any_few_lines_of_it_are_no_x86_dump(form: str, values: list[int], data: st.DataObject) -> None:
    """A cut dump gives values of the whole one, or none; what is missing is named, and x86 is never said.

    One line alone may be anybody's: ``R12=… R13=… R14=… R15=…`` is printed for two architectures.
    """
    printer, arch = FORMS[form]
    text, registers = printer(values)
    lines = text.splitlines(keepends=True)
    first = data.draw(st.integers(0, len(lines) - 3))
    count = data.draw(st.integers(3, 10))
    failures = read("".join(lines[first : first + count]).encode()).failures
    for failure in failures:
        assert failure.arch in {arch, "ppc"}
        assert failure.cpu is not None
        assert failure.cpu.registers.items() <= registers.items()
        assert failure.damage


@forms
@settings(max_examples=15)
@given(values=dumped, at=st.integers(0, 4000))
def test_cut_anywhere_no_value_is_invented(form: str, values: list[int], at: int) -> None:
    """A number that lost digits is damage, not a smaller number."""
    text, registers = FORMS[form][0](values)
    for failure in read((BANNER + text)[:at].encode()).failures:
        if failure.cpu is not None:
            assert failure.cpu.registers.items() <= registers.items()


@forms
def test_it_is_answered_without_a_word_of_x86(form: str) -> None:
    """The whole road: nothing that decodes x86 falls over such a record."""
    text, _ = FORMS[form][0](list(range(40)))
    assert diagnose(one(BANNER + text)).answer


@forms
def test_two_vcpus_are_two(form: str) -> None:
    """A dump ends where the next one begins."""
    first, _ = FORMS[form][0](list(range(40)))
    second, registers = FORMS[form][0](list(range(100, 140)))
    failures = read((BANNER + first + BANNER + second).encode()).failures
    assert len(failures) == 2
    assert failures[1].cpu is not None
    assert failures[1].cpu.registers == registers


def test_s390x_r12_is_not_x86s_r12() -> None:
    """Both print the same four names in one line; the lines around it decide."""
    text, _ = s390x(list(range(40)))
    failure = one("KVM: unknown exit, hardware reason 8\n" + text)
    assert failure.arch == "s390x"
    assert failure.cpu is not None
    assert "rip" not in failure.cpu.registers
    assert failure.cpu.registers["r12"] == 14


@pytest.mark.parametrize(
    ("text", "kind", "fields", "arch"),
    [
        (
            "KVM: unknown exit, hardware reason ffffffffffffffea\n",
            "unknown-exit",
            {"hardware_reason": MINUS_22},
            None,
        ),
        ("kvm_arch_handle_exit: un-handled exit reason 41\n", "other", {"exit_reason": 41}, None),
        ("Unknown KVM exit: 9\n", "entry-failure", {"exit_reason": 9}, "s390x"),
        ("Unknown intercept code: 32\n", "other", {"exit_reason": 13}, "s390x"),
        ("kvm_arch_handle_exit: unknown exit reason 17\n", "internal-error", {"exit_reason": 17}, "mips"),
        ("error: kvm run failed Function not implemented\n", "run-error", {"errno": "ENOSYS"}, "arm64"),
        ("error: kvm run failed Operation not supported\n", "run-error", {"errno": "EOPNOTSUPP"}, "riscv64"),
        (
            "error: kvm run failed Device or resource busy\nThis is probably because your SMT is enabled.\n",
            "run-error",
            {"errno": "EBUSY"},
            "ppc64",
        ),
        ("qemu-system-aarch64: error: kvm run failed Bad address\n", "run-error", {"errno": "EFAULT"}, "arm64"),
        ("error: kvm run failed Bad address\n", "run-error", {"errno": "EFAULT"}, None),
    ],
)
def test_announcements_name_what_they_can(text: str, kind: str, fields: dict[str, object], arch: str | None) -> None:
    """target/*/kvm*.c: kvm_arch_handle_exit; what one architecture alone prints or returns tells which it is."""
    failure = one(text)
    assert (failure.kind, failure.arch) == (kind, arch)
    assert {name: getattr(failure, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("around", "arch"),
    [
        ("./cloud-hypervisor-static-aarch64 --version\n", "arm64"),
        ("[346883.550907] kvm [15763]: load/store instruction decoding not implemented\n", "arm64"),
        ("[    8.8] kvm [138]: VCPU exit error -14\n", "riscv64"),
        ("Linux host 6.12.0 #1 SMP s390x GNU/Linux\n", "s390x"),
        ("Architecture:                         ppc64le\n", "ppc64"),
        ("the aarch64 and the x86_64 builds of qemu-system-x86_64 and qemu-system-aarch64\n", None),
        ("", None),
    ],
)
def test_what_stands_around_a_failure_names_its_architecture(around: str, arch: str | None) -> None:
    """A line of the kernel, a program's name; where several are named, none is."""
    assert one(around + BANNER).arch == arch


def test_what_stands_far_away_is_of_another_host() -> None:
    """A fleet's log has hosts of several architectures in it."""
    assert one("qemu-system-aarch64 was started\n" + "x\n" * 8000 + BANNER).arch is None


CRASHES = {
    "libvirt": "2026-01-02T03:04:05.678Z: panic s390: core='1' psw-mask='0x0002000180000000'"
    " psw-addr='0x0000000000004608' reason='disabled-wait'\n",
    "QEMU": "Guest crashed on cpu 1: disabled-wait\nPSW: 0x0002000180000000 0x0000000000004608\n",
    "QMP": '{"event": "GUEST_PANICKED", "data": {"action": "pause", "info": {"core": 1, "psw-addr": 17928, "reason":'
    ' "disabled-wait", "type": "s390", "psw-mask": 562956395872256}}}\n',
}


@pytest.mark.parametrize("text", CRASHES.values(), ids=CRASHES)
def test_a_crash_of_an_s390x_guest(text: str) -> None:
    """run-state.c: qemu_system_guest_panicked; the PSW is all that is printed of the CPU."""
    failure = one(text)
    assert (failure.kind, failure.arch, failure.source.vcpu) == ("symptom", "s390x", 1)
    assert failure.symptom is not None
    assert failure.symptom.fields == {"reason": "disabled-wait"}
    assert failure.cpu is not None
    assert failure.cpu.registers == {"psw_mask": 0x2000180000000, "psw_addr": 0x4608}


@pytest.mark.parametrize(
    ("text", "arch", "reason", "fields"),
    [
        (
            "kvm_riscv_handle_sbi: un-handled SBI EXIT, specific reasons is 1145258578\n",
            "riscv64",
            35,
            {"extension_id": 0x44434252},
        ),
        ("kvm_riscv_handle_sbi: Unhandled SBI exit with extension-id 8\n", "riscv64", 35, {"extension_id": 8}),
        ("kvm_riscv_handle_csr: un-handled CSR EXIT for CSR 21\n", "riscv64", 36, {"csr_num": 0x15}),
        ("qemu: Data abort exception with no valid ISS generated by guest memory access.\n", "arm64", 28, {}),
    ],
)
def test_exits_that_qemu_does_not_take(text: str, arch: str, reason: int, fields: dict[str, int]) -> None:
    """target/riscv/kvm, target/arm/kvm.c: with the number that they print."""
    (failure,) = read(text.encode()).failures
    assert (failure.arch, failure.exit_reason, failure.exit_fields) == (arch, reason, fields)


def test_an_unmanageable_intercept_is_a_crash_of_the_guest() -> None:
    """QEMU 2.1 to 2.11 for s390x."""
    text = "Unmanageable program interrupt! CPU1 new PSW: 0x0002000180000000:0000000000000012\n"
    (failure,) = read(text.encode()).failures
    assert failure.symptom
    assert failure.symptom.fields == {"reason": "pgmint-loop"}
    assert failure.cpu
    assert failure.cpu.registers == {"psw_mask": 0x2000180000000, "psw_addr": 0x12}

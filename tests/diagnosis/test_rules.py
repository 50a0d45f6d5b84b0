"""Rules on records made to order: what each says, and where each must stay silent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.abi import encode_page
from kvmwhy.abi.internal_error import instruction_words
from kvmwhy.diagnosis import catalogue, diagnose
from kvmwhy.diagnosis.cause import FAMILIES
from kvmwhy.readers import read
from kvmwhy.record import Code, Cpu, Emulation, Exit, Failure, Host, HostEvent, Segment
from kvmwhy.render.json import to_json

FLAT = Segment(0x10, 0, 0xFFFFFFFF, 0xC09300)
CODE64 = Segment(0x10, 0, 0xFFFFFFFF, 0xA09B00)
CODE32 = Segment(0x08, 0, 0xFFFFFFFF, 0xC09B00)


def long64(**registers: int) -> Cpu:
    values = {"rip": 0xFFFFFFFF81000000, "cr0": 0x80050033, "cr3": 0x1000, "cr4": 0x6F0, "efer": 0xD01, **registers}
    return Cpu(registers=values, segments={"cs": CODE64, "ss": FLAT, "ds": FLAT}, cpl=0)


def prot32(**registers: int) -> Cpu:
    values = {"rip": 0x8000, "cr0": 0x11, "cr3": 0, "cr4": 0, "efer": 0, **registers}
    segments = {"cs": CODE32, "ss": FLAT, "ds": FLAT, "es": FLAT, "idt": Segment(0, 0x3008, 0x7FF, 0)}
    return Cpu(registers=values, segments=segments, cpl=0)


def emulation(insn: bytes, *words: int, cpu: Cpu | None = None, **more: object) -> Failure:
    flags_and_bytes = (1, *instruction_words(insn)) if insn else (0,)
    data = (*flags_and_bytes, *words, *(0,) * (5 - len(words)))
    return Failure(kind="internal-error", suberror=1, ndata=len(data), data=data, cpu=cpu, **more)  # type: ignore[arg-type]


def test_the_dump_that_was_never_explained() -> None:
    """flags 0, reason 0x30, qualification 0x584, RIP 0xb0000: a wild jump into the VGA window, not KVM's fault."""
    diagnosis = diagnose(emulation(b"", 0x30, 0x584, cpu=long64(rip=0xB0000)))
    assert diagnosis.findings[0].answer.startswith("The guest jumped to 0xb0000")
    assert "VGA window" in diagnosis.findings[0].answer
    assert [f.cause.id for f in diagnosis.findings] == ["fetch-non-ram"]
    # That KVM could not fetch there is certain; who sent the guest there the record does not know.
    assert diagnosis.findings[0].confidence == "likely"
    assert diagnosis.facts.access is not None
    assert diagnosis.facts.access.kind == "fetch"


def test_amd_words_name_the_operand() -> None:
    """EXITINFO2 is the GPA: XSAVEC64 at 0x4a0003140, which no kernel can emulate, in a cut dump."""
    cpu = Cpu(registers={"rax": 7, "rcx": 0xFFFF8EACE0003100}, wide=True)
    insn = bytes.fromhex("480fc7614031c0488b4710f6804002")
    diagnosis = diagnose(emulation(insn, 0x400, 0x10000000F, 0x4A0003140, cpu=cpu))
    facts = diagnosis.facts
    assert facts.vendor.vendor == "svm"
    assert facts.instruction is not None
    assert facts.instruction.text == "xsavec64 [rcx+0x40]"
    assert facts.access is not None
    assert (facts.access.kind, facts.access.gpa, facts.access.gva) == ("write", 0x4A0003140, 0xFFFF8EACE0003140)
    assert diagnosis.findings[0].cause.id == "emulator-no-handler"


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [("6.1.0-56-amd64", "certain"), (None, "likely"), ("7.3.4", None)],
)
def test_an_avx_move_depends_on_the_hosts_kernel(kernel: str | None, expected: str | None) -> None:
    """VMOVDQU is a gap before 6.19, a likely one on an unknown kernel, and none on a newer one."""
    failure = emulation(bytes.fromhex("c5fe6f03"), 0x31, cpu=long64(rbx=0xD0000000), host=Host(kernel=kernel))
    found = {f.cause.id: f.confidence for f in diagnose(failure).findings}
    assert found.get("emulator-no-handler") == expected
    assert ("undecided" in found) == (expected is None)


def test_an_instruction_that_kvm_can_do_is_not_called_a_gap() -> None:
    """MOV r, [mem] has a handler in every kernel: the honest answer is that something else failed."""
    diagnosis = diagnose(emulation(bytes.fromhex("8b03"), 0x31, cpu=prot32(rbx=0xFEC00000)))
    assert [f.cause.id for f in diagnosis.findings] == ["undecided"]


def test_the_mode_is_inferred_from_what_kvm_could_not_do() -> None:
    """48 0f ae 27 is XSAVE64 in 64-bit code; in 32-bit code it begins with DEC, which KVM can do."""
    diagnosis = diagnose(emulation(bytes.fromhex("480fae27"), 0x31))
    assert diagnosis.facts.mode is None
    assert diagnosis.facts.instruction is not None
    assert diagnosis.facts.instruction.text == "xsave64 [rdi]"
    assert diagnosis.facts.code_mode is not None
    assert diagnosis.facts.code_mode.why == "only in this mode would KVM fail on these bytes"


def test_words_without_bytes_from_another_producer_are_no_fetch() -> None:
    """VMREAD's operand on MMIO (reason 23) has no bytes either, and the guest did not jump anywhere."""
    diagnosis = diagnose(emulation(b"", 23, 0x10, cpu=long64()))
    assert {f.confidence for f in diagnosis.findings} == {"possible"}
    assert "fetch-non-ram" not in {f.cause.family for f in diagnosis.findings}


def test_no_vm_entry_yet_is_no_fetch() -> None:
    """Five zero words: no VM exit had happened, so nothing is known of any access."""
    diagnosis = diagnose(emulation(b"", 0, cpu=prot32()))
    assert diagnosis.facts.fetch_failed is None
    assert [f.cause.family for f in diagnosis.findings] == ["undecided"]


@pytest.mark.parametrize(
    ("data", "rsp", "structure"),
    [
        ((0x80000B0E, 0x31, 0x182, 0x32EFE0), 0x32EFE4, "stack frame"),
        ((0x80000B0E, 0x31, 0x182, 0x3008 + 14 * 8, 7), 0x7000, "IDT"),
        ((0x80000B0E, 0x31, 0x182, 0x9000000, 7), 0x7000, None),
    ],
)
def test_the_address_of_a_delivery_is_matched_to_a_structure(
    data: tuple[int, ...], rsp: int, structure: str | None
) -> None:
    """Without paging the GPA is in the pushed frame, in the IDT entry of this vector, or in neither."""
    failure = Failure(kind="internal-error", suberror=3, ndata=len(data), data=data, cpu=prot32(rsp=rsp))
    diagnosis = diagnose(failure)
    assert diagnosis.facts.delivery is not None
    assert diagnosis.facts.delivery.structure == structure
    assert diagnosis.findings[0].cause.id == "event-delivery-non-ram"
    assert "#PF" in diagnosis.findings[0].answer


def test_a_page_table_root_outside_ram_is_a_page_walk() -> None:
    """The GPA lies in the page that CR3 points to: the walk, not the frame, hit what is no RAM."""
    failure = Failure(
        kind="internal-error",
        suberror=3,
        ndata=5,
        data=(0x80000B0E, 0x31, 0xD81, 0x390074AC0, 0x10),
        cpu=long64(cr3=0x390074000, rsp=0xFFFFAC1C4067BC88),
    )
    access = diagnose(failure).facts.access
    assert access is not None
    assert access.kind == "page-walk"


def test_an_exit_that_no_delivery_can_cause_is_not_explained_by_one() -> None:
    """WRMSR while an interrupt is being delivered has nothing to do with stacks and IDTs."""
    failure = Failure(
        kind="internal-error", suberror=3, ndata=4, data=(0x8000002F, 0x20, 0x582, 6), cpu=long64(rsp=0x1000)
    )
    assert all(f.cause.id != "event-delivery-non-ram" for f in diagnose(failure).findings)


def test_an_instruction_cut_by_its_page_names_the_next_page() -> None:
    """RIP + insn_size at a page's end: the fetch failed in the page behind."""
    cpu = prot32(rip=0x8FFE)
    diagnosis = diagnose(emulation(bytes.fromhex("660f"), 0x30, 0x184, cpu=cpu))
    access = diagnosis.facts.access
    assert access is not None
    assert (access.kind, access.gva) == ("fetch", 0x9000)
    assert diagnosis.findings[0].cause.id == "fetch-non-ram"


def test_zeros_at_rip_alone_are_no_diagnosis() -> None:
    """`00 00` in an old dump has had five unrelated causes: never more than possible."""
    code = Code((0,) * 50, 20)
    failure = Failure(kind="internal-error", suberror=1, ndata=0, cpu=prot32(rip=0x0FEDB30C), code=code)
    assert {f.confidence for f in diagnose(failure).findings} == {"possible"}


def test_registers_of_another_vcpu_make_nothing_certain() -> None:
    """When a dump may be another vCPU's, every finding is only possible, and says why."""
    failure = msgspec.structs.replace(emulation(bytes.fromhex("d903"), 0x31, cpu=prot32()), cpu_shared=True)
    for finding in diagnose(failure).findings:
        assert finding.confidence == "possible"
        if finding.cause.id != "undecided":
            assert any("another vCPU" in text for text in finding.against)


def test_ambiguous_words_are_not_decoded() -> None:
    """Where two layouts fit, no word is explained as either; both are named."""
    failure = Failure(kind="internal-error", suberror=1, ndata=8, data=(0, 0, 0, 0x30, 0x184, 0, 0, 0))
    facts = diagnose(failure).facts
    assert facts.words is None
    assert facts.explained is None
    assert facts.layout == "final-no-bytes"


def test_every_cause_has_a_whole_page() -> None:
    """IDs are unique, families are known, and no page has an empty part."""
    causes = catalogue()
    assert len({c.id for c in causes.values()}) == len(causes)
    for cause in causes.values():
        assert cause.family in FAMILIES
        assert all((cause.title, cause.what, cause.recognise, cause.confused_with, cause.references, cause.example))
        assert cause.id == "undecided" or any(cause.fix)


u64 = st.integers(0, 2**64 - 1)
registers = st.dictionaries(
    st.sampled_from(["rax", "rbx", "rsp", "rip", "rflags", "cr0", "cr2", "cr3", "cr4", "efer", "r8", "rcx", "rdx"]), u64
)
segments = st.dictionaries(
    st.sampled_from(["cs", "ss", "ds", "es", "fs", "gs", "tr", "ldt", "gdt", "idt"]),
    st.builds(Segment, st.integers(0, 0xFFFF), u64, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
)
cpus = st.builds(Cpu, registers=registers, segments=segments, cpl=st.none() | st.integers(0, 3))
codes = st.builds(
    Code, st.lists(st.none() | st.integers(0, 255), max_size=50).map(tuple), st.none() | st.integers(0, 49)
)
words = st.lists(st.sampled_from([0, 1, 0x30, 0x31, 0x400, 0x80000B0E, 0x80000021]) | u64, max_size=16).map(tuple)
failures = st.builds(
    Failure,
    kind=st.sampled_from(["internal-error", "entry-failure", "unknown-exit", "run-error", "shutdown", "other"]),
    suberror=st.none() | st.integers(0, 6),
    ndata=st.none() | st.integers(0, 2**32 - 1),
    data=words,
    hardware_error=st.none() | u64,
    hardware_reason=st.none() | u64,
    cpu=st.none() | cpus,
    cpu_shared=st.booleans(),
    code=st.none() | codes,
)


@settings(deadline=None)  # the first one loads the decoder and the tables
@given(failures)
def test_any_record_is_explained_without_an_exception(failure: Failure) -> None:
    """Every record gets at least one finding, a first line, and a line of JSON."""
    diagnosis = diagnose(failure)
    assert diagnosis.findings
    assert diagnosis.answer.endswith(".")
    assert b"\n" not in to_json(diagnosis)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=15), st.integers(0, 2**32 - 1), u64, u64)
def test_a_page_made_to_order_is_explained(insn: bytes, reason: int, info1: int, info2: int) -> None:
    """From the kernel's side to the explanation: the bytes explained are the bytes that were put in."""
    page = encode_page.emulation_failure(encode_page.ExitInfo(reason, info1, info2), insn=insn)
    (failure,) = read(page).failures
    facts = diagnose(failure).facts
    assert facts.reading is not None
    assert facts.reading.failure.insn == insn
    if facts.instruction:
        assert insn.startswith(facts.instruction.bytes)


REAL16_RESET = Cpu(
    registers={"rax": 0, "rbx": 0, "rcx": 0, "rdx": 0x906A4, "rip": 0xFFF0, "rflags": 2, "cr0": 0x60000010, "cr3": 0}
    | {"rsi": 0, "rdi": 0, "rbp": 0, "rsp": 0, "cr4": 0, "efer": 0},
    segments={"cs": Segment(0xF000, 0xFFFF0000, 0xFFFF, 0x9B00)},
    cpl=0,
)


BIOS_SPIN = Cpu(
    registers={"rip": 0xFFE0, "rflags": 2, "cr0": 0x10, "cr3": 0, "cr4": 0, "efer": 0},
    segments={"cs": Segment(0xF000, 0xF0000, 0xFFFF, 0x9B00)},
    cpl=0,
)
SPIN = Code((0xEB, 0xFD, 0xF4, 0x90, 0x90), 0)
ZEROS = Code((0, 0, 0, 0, 0), 0)


@pytest.mark.parametrize(
    ("failure", "cause", "confidence"),
    [
        # An SMI handler's first instruction; the same number elsewhere is only an invalid state.
        (
            Failure(
                kind="entry-failure",
                hardware_error=0x80000021,
                cpu=Cpu(registers={"rip": 0x8000, "cr0": 0x50032}, smm=True),
            ),
            "smm",
            "likely",
        ),
        (Failure(kind="entry-failure", hardware_error=0x80000021), "invalid-guest-state", "possible"),
        (Failure(kind="entry-failure", hardware_error=0x80000021, cpu=REAL16_RESET), "invalid-guest-state", "possible"),
        (
            Failure(
                kind="entry-failure",
                hardware_error=0x80000021,
                cpu=msgspec.structs.replace(REAL16_RESET, registers={**REAL16_RESET.registers, "rip": 0x906428E6}),
            ),
            "vcpu-state-mixture",
            "likely",
        ),
        (Failure(kind="entry-failure", hardware_error=7, cpu=REAL16_RESET), "outer-hypervisor-entry", "possible"),
        (Failure(kind="entry-failure", hardware_error=5), "vmresume-of-unlaunched", "possible"),
        (Failure(kind="entry-failure", hardware_error=8), "outer-hypervisor-entry", "possible"),
        (
            Failure(kind="entry-failure", hardware_error=7, host=Host(hypervisor="VMware")),
            "outer-hypervisor-entry",
            "likely",
        ),
        (Failure(kind="run-error", errno="EIO"), "host-kernel-trouble", "possible"),
        (Failure(kind="run-error", errno="ENOSYS"), "arm64-no-syndrome", "likely"),
        (Failure(kind="entry-failure", hardware_error=0xFFFFFFFF), "undecided", "possible"),
        (
            Failure(kind="internal-error", suberror=2, ndata=2, data=(0x80000008, 0x80000B08)),
            "simultaneous-events",
            "certain",
        ),
        (Failure(kind="internal-error", suberror=4, ndata=2, data=(0x33, 6)), "unhandled-exit", "certain"),
        (
            Failure(
                kind="internal-error", suberror=4, ndata=2, data=(3, 6), host=Host(vendor="vmx", vendor_from="text")
            ),
            "host-dying-init",
            "likely",
        ),
        (Failure(kind="internal-error", suberror=4, ndata=2, data=(0xE000060400000000, 49)), "tdx-status", "likely"),
        (
            Failure(
                kind="internal-error", suberror=3, ndata=4, data=(0x8000002F, 0x20, 0x582, 6), cpu=long64(rsp=0x1000)
            ),
            "impossible-vectoring",
            "likely",
        ),
        (Failure(kind="run-error", errno="EFAULT"), "host-memory-fault", "likely"),
        (Failure(kind="run-error", errno="EINVAL"), "host-kernel-trouble", "possible"),
        (Failure(kind="run-error", errno="EINVAL", cpu=REAL16_RESET), "host-kernel-trouble", "likely"),
        (Failure(kind="run-error", errno="EINTR"), "undecided", "possible"),
        (
            Failure(
                kind="entry-failure",
                hardware_error=0x80000021,
                cpu=REAL16_RESET,
                host=Host(events=(HostEvent(kind="oops"),)),
            ),
            "host-kernel-trouble",
            "likely",
        ),
        (
            Failure(
                kind="entry-failure",
                hardware_error=0xFFFFFFFF,
                cpu=Cpu(registers={"rip": 0x8000, "cr0": 0x50032}, smm=True),
            ),
            "nested-svm-smm",
            "likely",
        ),
        (
            Failure(kind="entry-failure", hardware_error=0, cpu=long64(), host=Host(rivals=("vboxdrv",))),
            "other-hypervisor",
            "likely",
        ),
        (Failure(kind="other", errno="EBUSY"), "other-hypervisor", "likely"),
        (Failure(kind="other", exit_reason=40), "exit-unknown-to-vmm", "likely"),
        (Failure(kind="unknown-exit", hardware_reason=0x31), "ept-misconfiguration", "likely"),
        (Failure(kind="unknown-exit", hardware_reason=0x33), "unhandled-exit", "likely"),
        (emulation(b"", 0x400, 0x100000014, 0xFFFE0, cpu=BIOS_SPIN, code=SPIN), "memslot-race", "likely"),
        (emulation(b"", 0x400, 0x100000014, 0xFFFE0, cpu=BIOS_SPIN, code=ZEROS), "fetch-non-ram", "likely"),
        (Failure(kind="exception-exit", exception=17, exception_error_code=0), "split-lock", "likely"),
        (Failure(kind="exception-exit", exception=1, exception_error_code=0), "undecided", "possible"),
        (Failure(kind="unknown-exit", hardware_reason=0xFFFFFFFFFFFFFFEA), "not-x86", "possible"),
        (emulation(bytes.fromhex("0faa"), 0x72, cpu=prot32()), "smm", "likely"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_each_family_is_found_by_its_own_mark(failure: Failure, cause: str, confidence: str) -> None:
    """The first finding is the cause that the manual or the kernel ties to these numbers, no surer than that."""
    best = diagnose(failure).findings[0]
    assert (best.cause.id, best.confidence) == (cause, confidence)


def seabios(rip: int, **more: object) -> Cpu:
    tables = {"gdt": Segment(0, 0xF6688, 0x37, 0), "idt": Segment(0, 0xF66C6, 0, 0)}
    cpu = prot32(rip=rip)
    return msgspec.structs.replace(cpu, segments={**cpu.segments, **tables}, **more)


def test_firmware_that_executes_zeros_is_not_blamed() -> None:
    """SeaBIOS's own tables, paging off, zeros at RIP: what runs it is named first, and only as possible."""
    lost = Failure(kind="internal-error", suberror=1, data=(), cpu=seabios(0xFEDB30C), code=ZEROS)
    best = diagnose(lost).findings[0]
    assert (best.cause.id, best.confidence) == ("firmware-astray", "possible")
    # The same zeros with a loader's own GDT: nothing says that firmware was running.
    loader = msgspec.structs.replace(lost, cpu=prot32(rip=0xFEDB30C))
    assert "firmware-astray" not in {f.cause.id for f in diagnose(loader).findings}


def test_a_far_jump_without_words_may_be_a_task_switch() -> None:
    """No words, a far jump in protected mode: a task switch is possible; a plain instruction is none."""
    jump = Code((0xEA, 0, 0, 0, 0, 0x28, 0), 0)
    far = Failure(kind="internal-error", suberror=1, ndata=0, cpu=prot32(), code=jump)
    assert "task-switch" in {f.cause.id for f in diagnose(far).findings}
    near = msgspec.structs.replace(far, code=Code((0xE9, 0, 0, 0, 0), 0))
    assert "task-switch" not in {f.cause.id for f in diagnose(near).findings}


def test_a_write_to_the_smi_port_is_remarked() -> None:
    """OUT 0xb2 raises an SMI: software of a real board does that."""
    found = {f.cause.id for f in diagnose(emulation(b"\xe6\xb2", 0x1E, cpu=prot32())).findings}
    assert "guest-drives-missing-hardware" in found


TRACED = Failure(
    kind="other",
    silent=True,
    emulation=Emulation(rip=0x401000, cs_base=0, insn=bytes.fromhex("d903f4"), mode="long64"),
    exit=Exit(reason=0x400, info1=0x10000000D, info2=0xFEB00000, intr_info=0, error_code=0, isa="svm"),
)


def test_a_failure_known_from_a_trace_alone_is_explained() -> None:
    """The tracepoints name what the record would have held: instruction, vendor, address; and that nobody was told."""
    diagnosis = diagnose(TRACED)
    facts = diagnosis.facts
    assert facts.instruction is not None
    assert facts.instruction.text == "fld dword ptr [rbx]"
    assert (facts.vendor.vendor, facts.mode and facts.mode.name, facts.rip) == ("svm", "long64", 0x401000)
    assert facts.access is not None
    assert (facts.access.kind, facts.access.gpa) == ("read", 0xFEB00000)
    assert diagnosis.findings[0].cause.id == "emulator-no-handler"
    assert "#UD (SIGILL) instead" in diagnosis.findings[0].answer


def test_a_traced_fetch_without_bytes_is_a_wild_jump() -> None:
    """The tracepoint shows no byte: KVM could not fetch one."""
    jumped = msgspec.structs.replace(
        TRACED,
        emulation=Emulation(rip=0xD0000000, cs_base=0, insn=b"", mode="long64"),
        exit=Exit(reason=0x400, info1=0x100000014, info2=0xD0000000, isa="svm"),
    )
    assert diagnose(jumped).findings[0].cause.id == "fetch-non-ram"


def test_a_possible_cause_is_not_stated_as_a_fact() -> None:
    """The first line says so when the best finding is only possible."""
    diagnosis = diagnose(Failure(kind="entry-failure", hardware_error=7))
    assert diagnosis.mechanism is not None
    assert diagnosis.answer == diagnosis.mechanism.text


def test_the_hosts_own_trouble_alone_is_no_guests_failure() -> None:
    """A warning in KVM and nothing else is only possible; a field that Hyper-V lacks is likely."""
    warned = "KVM: accessing unsupported EVMCS field 2032\nWARNING: CPU: 3 PID: 9 at arch/x86/kvm/vmx/evmcs.h:85 x\n"
    (failure,) = read(warned.encode()).failures
    assert [(f.cause.id, f.confidence) for f in diagnose(failure).findings] == [
        ("evmcs-field-missing", "likely"),
        ("host-kernel-trouble", "possible"),
    ]


def test_the_printed_catalogue_is_the_one_that_is_shown() -> None:
    """docs/causes.md is what tools/make_catalogue.py makes of the catalogue today."""
    tool = Path(__file__).parent.parent.parent / "tools" / "make_catalogue.py"
    checked = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_the_hosts_nmi_is_no_second_exception() -> None:
    """handle_exception of old kernels asked for vectoring information before it asked for an NMI (vmx.c up to 4.x)."""
    best = diagnose(Failure(kind="internal-error", suberror=2, ndata=2, data=(0x800000EC, 0x80000202))).findings[0]
    assert best.cause.id == "simultaneous-events"
    assert "host's own NMI" in best.answer
    assert best.advice.host is not None
    assert "NMI" in best.advice.host


def test_an_instruction_of_vmx_is_no_gap_of_the_emulator() -> None:
    """VMLAUNCH has a handler of its own (nested.c): if it fails, what it names was not there."""
    failure = Failure(kind="internal-error", suberror=1, ndata=0, cpu=long64(), code=Code((0x0F, 0x01, 0xC2, 0x90), 0))
    assert "emulator-no-handler" not in {f.cause.id for f in diagnose(failure).findings}


def test_foreign_bytes_are_not_what_the_guest_ran() -> None:
    """KVM was handed IRET, and the VMM reads JNE at RIP: nobody says that the guest ran IRET."""
    window = Code((0x75, 0x38, 0xB9, 0x80, 0, 0, 0xC0, 0x0F, 0x32, 0x0F), 0)
    cpu = prot32(rip=0x1000)
    failure = emulation(bytes.fromhex("cfd0bef2cfd096"), 0x400, 0x100000004, 0x581C356C, cpu=cpu, code=window)
    found = diagnose(failure)
    assert found.facts.foreign_bytes
    assert all("the guest ran" not in finding.answer for finding in found.findings)

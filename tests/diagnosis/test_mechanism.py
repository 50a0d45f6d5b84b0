"""From text to slug: what happened, by the kernel's producers and the VMM's format strings.

QEMU's forms: accel/kvm/kvm-all.c (`KVM internal error. Suberror: %d`, `extra data[%d]: 0x%016`, `KVM: entry failed,
hardware error 0x%`, `error: kvm run failed %s`, `KVM: unknown exit, hardware reason %`), target/i386/kvm/kvm.c
(`emulation failure`, `KVM: unknown exit reason %d`, `KVM: exception %d exit (error code 0x%x)`) and
target/i386/cpu-dump.c. The expected slugs follow from arch/x86/kvm and the manuals, as each row says.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.diagnosis import diagnose
from kvmwhy.diagnosis.answer import Mechanism
from kvmwhy.diagnosis.facts import gather
from kvmwhy.diagnosis.mechanism import MECHANISMS, mechanism
from kvmwhy.readers import read
from kvmwhy.record import Emulation, Event, Exit, Failure, Host, HostEvent, Setup, Speaker, Symptom

RESET = """EAX=00000000 EBX=00000000 ECX=00000000 EDX=000306d2
ESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000
EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =0000 00000000 0000ffff 00009300
CS =f000 ffff0000 0000ffff 00009b00
SS =0000 00000000 0000ffff 00009300
DS =0000 00000000 0000ffff 00009300
FS =0000 00000000 0000ffff 00009300
GS =0000 00000000 0000ffff 00009300
LDT=0000 00000000 0000ffff 00008200
TR =0000 00000000 0000ffff 00008b00
GDT=     00000000 0000ffff
IDT=     00000000 0000ffff
CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000
DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000
DR6=00000000ffff0ff0 DR7=0000000000000400
EFER=0000000000000000
"""
FLAT = """EAX=b0000000 EBX=00000000 ECX=000f80f2 EDX=00000001
ESI=005a3c00 EDI=7feb82e0 EBP=0007fe1c ESP=0007fe14
EIP={eip:08x} EFL=00000017 [----APC] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =0010 00000000 ffffffff 00c09300 DPL=0 DS   [-WA]
CS =0008 00000000 ffffffff 00c09b00 DPL=0 CS32 [-RA]
SS =0010 00000000 ffffffff 00c09300 DPL=0 DS   [-WA]
DS =0010 00000000 ffffffff 00c09300 DPL=0 DS   [-WA]
FS =0010 00000000 ffffffff 00c09300 DPL=0 DS   [-WA]
GS =0010 00000000 ffffffff 00c09300 DPL=0 DS   [-WA]
LDT=0000 00000000 0000ffff 00008200 DPL=0 LDT
TR =0000 00000000 0000ffff 00008b00 DPL=0 TSS32-busy
GDT=     00008280 00000027
IDT=     00000000 00000000
CR0=00000011 CR2=00000000 CR3=00000000 CR4=00000000
DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000
DR6=00000000ffff0ff0 DR7=0000000000000400
EFER=0000000000000000
"""
LONG = """RAX=0000000000000000 RBX=ffff8a6f90006800 RCX=0000000000100001 RDX=0000000080100010
RSI=ffffca291a400000 RDI=0000000040000000 RBP=ffff9684c0017a60 RSP=ffff9684c0017a30
R8 =ffff8a6f90006800 R9 =0000000000100001 R10=0000000000000000 R11=0000000000000001
R12=ffffca291a400000 R13=0000000000100001 R14=0000000000000000 R15=0000000080100010
RIP=ffffffffb71c5831 RFL=00010006 [-----P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =0000 0000000000000000 ffffffff 00c00000
CS =0010 0000000000000000 ffffffff 00a09b00 DPL=0 CS64 [-RA]
SS =0018 0000000000000000 ffffffff 00c09300 DPL=0 DS   [-WA]
DS =0000 0000000000000000 ffffffff 00c00000
FS =0000 00007fd03025db40 ffffffff 00c00000
GS =0000 ffff8a6a7bd00000 ffffffff 00c00000
LDT=0000 0000000000000000 ffffffff 00c00000
TR =0040 fffffe46e6e25000 00004087 00008b00 DPL=0 TSS64-busy
GDT=     fffffe46e6e23000 0000007f
IDT=     fffffe0000000000 00000fff
CR0=80050033 CR2=00005604371ab0c8 CR3=0000000102ece000 CR4=000006e0
DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000
DR6=00000000fffe0ff0 DR7=0000000000000400
EFER=0000000000000d01
"""
EMULATION = "KVM internal error. Suberror: 1\nemulation failure\n"


def extra(suberror: int, *words: int) -> str:
    lines = "".join(f"extra data[{n}]: 0x{word:016x}\n" for n, word in enumerate(words))
    tail = "emulation failure\n" if suberror == 1 else ""
    return f"KVM internal error. Suberror: {suberror}\n{lines}{tail}"


def flags_and_bytes(code: str) -> tuple[int, int, int]:
    """data[0..2] of struct emulation_failure: flags, insn_size and fifteen bytes, filled with 0x90."""
    insn = bytes.fromhex(code).ljust(15, b"\x90")
    raw = b"\x0f" + insn
    return 1, int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")


def code(at_rip: str, *, before: str = "90") -> str:
    """Code= of cpu_dump_state: twenty bytes, the one at RIP in brackets, and what follows."""
    first, *rest = at_rip.split()
    return f"Code={' '.join([before] * 20)} <{first}> {' '.join(rest)}\n"


ZEROS = code(" ".join(["00"] * 30), before="00")
UNREADABLE = code(" ".join(["??"] * 30), before="??")

ROWS = {
    # 3.1 of the kernel's producers: nothing but the number
    "bare suberror 1": ("KVM internal error. Suberror: 1\n", "emulation-failed"),
    # prepare_emulation_failure_exit: no bytes and a fetch: EPT qualification bit 2 (SDM 3C, table 28-7)
    "fetch from the VGA window, VMX": (extra(1, 0, 0x30, 0x584, 0, 0, 0) + FLAT.format(eip=0xB0000), "fetch-not-ram"),
    # flags 0 and a reason say all, though the record is cut there: there were no bytes
    "a fetch, cut behind the reason": (extra(1, 0, 0x30, 0x584).partition("ta[2]")[0], "fetch-not-ram"),
    # NPF error code bit 4 (APM 2, 15.25.6)
    "fetch from a hole, SVM": (extra(1, 0, 0x400, 0x100000014, 0xD0000000, 0, 0), "fetch-not-ram"),
    # the emulator's tables have no XSAVE (emulate.c: group15)
    "XSAVE64 on MMIO": (extra(1, *flags_and_bytes("480fae2731c04189c40f01ca65488b"), 0x31, 0, 0, 0, 0) + LONG,
                        "emulation-no-handler"),
    # em_cmpxchg8b gives up for REX.W
    "CMPXCHG16B": (EMULATION + LONG + code("f0 48 0f c7 4e 20 0f 84 85 00 00 00"), "emulation-gives-up"),
    # RSM has a handler; it fails on a bad save area
    "RSM": (EMULATION + FLAT.format(eip=0xFD069) + code("0f aa fa fc 66 ba 78 d0 0f 00"), "emulation-gives-up"),
    # LEAVE came between 3.1 and 3.6; nothing shows a newer kernel
    "LEAVE on an old host": (EMULATION + LONG + code("c9 48 87 e2 48 87 e9 48 81 f9"), "emulation-no-handler"),
    # a record of 5.16 or newer: LEAVE has had its handler for ten years
    "LEAVE on a new host": (extra(1, *flags_and_bytes("c94887e24887e94881f99988770f94"), 0x31, 0, 0, 0, 0) + LONG,
                            "emulation-gives-up"),
    # QEMU reads zeros where no RAM is: paging off, far beyond any RAM shown
    "zeros in a hole": (EMULATION + FLAT.format(eip=0x40000000) + ZEROS, "fetch-not-ram"),
    "zeros in the PCI window": (EMULATION + FLAT.format(eip=0xF000FF53) + ZEROS, "fetch-not-ram"),
    # conventional memory is RAM on every PC: these zeros are ADD [EAX],AL, which has a handler
    "zeros in low RAM": (EMULATION + FLAT.format(eip=0xCD12) + ZEROS, "emulation-gives-up"),
    # nothing says how much RAM there is, and every PC has this much
    "zeros at 2 MiB": (EMULATION + FLAT.format(eip=0x20_0000) + ZEROS, "emulation-gives-up"),
    # FXSAVE came between 4.4 and 4.14; its handler does not fail on what is not RAM, it spins
    "FXSAVE": (EMULATION + FLAT.format(eip=0x10_0000) + code("0f ae 00 90 90 90 90"), "emulation-no-handler"),
    "?? without paging": (EMULATION + FLAT.format(eip=0x7F0000) + UNREADABLE, "fetch-not-ram"),
    "?? under paging": (EMULATION + LONG + UNREADABLE, "fetch-not-ram"),
    # JMP of registers alone cannot fail in the emulator: only its fetch can have
    "a spin in the BIOS": (EMULATION + FLAT.format(eip=0xFC95A) + code("eb fd fa fc 66 b8 00 c2"), "fetch-not-ram"),
    # IDT-vectoring information valid in info2 (SDM 3C, 24.9.3): the instruction is innocent
    "emulation while #UD is delivered": (
        extra(1, *flags_and_bytes("0f0b"), 0x31, 0, 0x80000306, 0, 0) + LONG, "event-delivery"),
    # kvm-intel without unrestricted guest emulates real mode as a whole; MOVQ to RAM came between 3.1 and 3.6
    "MMX in real mode": (EMULATION + RESET + code("0f 7e c0 66 0f 7f 07 90"), "emulation-no-handler"),
    # the CPU raises #UD by itself; without words, an emulation there means that the IDT or the stack is no RAM
    "UD2 on an old host": (EMULATION + LONG + code("0f 0b 90 90 90 90 90"), "event-delivery"),
    # VMLAUNCH is never the emulator's
    "VMLAUNCH": (EMULATION + LONG + code("0f 01 c2 73 08 0f 0b 90"), "emulation-gives-up"),
    "suberror 2": (extra(2, 0x80000306, 0x80000B0E, 9, 3), "simultaneous-events"),
    "suberror 2 of old kernels": (extra(2, 0x80000008, 0x80000B08), "simultaneous-events"),
    "suberror 3": (extra(3, 0x80000B0E, 0x31, 0x181, 0xBFFF0), "event-delivery"),
    "suberror 3 and nothing else": ("KVM internal error. Suberror: 3\n", "event-delivery"),
    "suberror 4": (extra(4, 0x33, 2), "exit-unhandled"),
    "suberror 4 of TDX": (extra(4, 0xE000060400000000, 0x31), "exit-unhandled"),
    "0x80000021": ("KVM: entry failed, hardware error 0x80000021\n" + RESET, "entry-refused-guest-state"),
    "0x80000022": ("KVM: entry failed, hardware error 0x80000022\n", "entry-refused-controls"),
    "0x7": ("KVM: entry failed, hardware error 0x7\n", "entry-refused-controls"),
    "0x5": ("KVM: entry failed, hardware error 0x5\n", "entry-refused-controls"),
    "0x0": ("KVM: entry failed, hardware error 0x0\n" + RESET, "entry-vmfail-no-number"),
    "VMEXIT_INVALID": ("KVM: entry failed, hardware error 0xffffffff\n", "entry-refused-guest-state"),
    "VMEXIT_INVALID since 7.0": ("KVM: entry failed, hardware error 0xffffffffffffffff\n", "entry-refused-guest-state"),
    "EFAULT": ("error: kvm run failed Bad address\n" + LONG, "run-errno"),
    "EIO": ("error: kvm run failed Input/output error\n", "run-errno"),
    # KVM_RUN returns ENOSYS on Arm alone (mmio.c: io_mem_abort)
    "ENOSYS": ("error: kvm run failed Function not implemented\n", "emulation-no-handler"),
    "unknown exit": ("KVM: unknown exit, hardware reason 31\n", "exit-unknown-to-kvm"),
    "an exit that QEMU does not know": ("KVM: unknown exit reason 39\n", "exit-unknown-to-vmm"),
    "an exception": ("KVM: exception 17 exit (error code 0x0)\n" + FLAT.format(eip=0x7C00), "exception-exit"),
}  # fmt: skip


def answer(text: str) -> Mechanism:
    first, *_ = read(text.encode()).failures
    found = diagnose(first).mechanism
    assert found is not None
    return found


@pytest.mark.parametrize(("text", "slug"), ROWS.values(), ids=ROWS.keys())
def test_a_text_has_one_mechanism(text: str, slug: str) -> None:
    """Each producer's text gives the slug that its source stands for, in one plain sentence."""
    found = answer(text)
    assert found.id == slug
    assert found.text.endswith(".")
    assert not found.text[0].islower()


@pytest.mark.parametrize(
    ("text", "certainty"),
    [
        (extra(1, *flags_and_bytes("480fae2731c04189c40f01ca65488b"), 0x31, 0, 0, 0, 0) + LONG, "certain"),
        (EMULATION + LONG + code("48 0f ae 27 31 c0 41 89 c4 0f 01 ca"), "likely"),
        (EMULATION + FLAT.format(eip=0x40000000) + ZEROS, "likely"),
        (EMULATION + LONG + UNREADABLE, "possible"),
        (EMULATION + LONG, "possible"),
        ("KVM: entry failed, hardware error 0x80000021\n", "certain"),
        ("KVM: entry failed, hardware error 0xffffffff\n", "likely"),
        ("error: kvm run failed Bad address\n", "certain"),
    ],
)
def test_certainty_follows_from_the_evidence(text: str, certainty: str) -> None:
    """The same failure with KVM's own bytes, with the VMM's later view, and with nothing."""
    assert answer(text).certainty == certainty


def event(kind: str, **fields: int | str) -> HostEvent:
    return HostEvent(kind=kind, fields=fields)


RECORDS = {
    # Xen's domain_crash, HAXM's panic and TCG's fatal are nobody's KVM
    "xen": (Failure(kind="not-kvm", speaker=Speaker(name="xen")), "not-this"),
    "KVM_CREATE_VM": (Failure(kind="setup-refused", errno="EBUSY", setup=Setup(call="KVM_CREATE_VM")), "setup-refused"),
    "an MSR": (Failure(kind="setup-refused", setup=Setup(call="KVM_SET_MSRS", msr=0x48E)), "setup-refused"),
    "shutdown": (Failure(kind="shutdown", exit_reason=8), "triple-fault"),
    "memory fault": (Failure(kind="other", exit_reason=39), "exit-unknown-to-vmm"),
    "system event": (Failure(kind="other", arch="arm64", exit_reason=24), "exit-unknown-to-vmm"),
    "an empty page": (Failure(kind="other", exit_reason=0), "exit-unknown-to-kvm"),
    "a system register": (
        Failure(kind="undef-injected", arch="arm64", host=Host(events=(event("sysreg-refused"),))), "undef-injected"),
    # arch/arm64/kvm/mmu.c: kvm_handle_guest_abort, -EFAULT
    "xFSC 0x21": (
        Failure(kind="host-trouble", arch="arm64", host=Host(events=(event("abort-not-handled", fsc=0x21),))),
        "run-errno"),
    # arch/arm64/kvm/mmio.c: io_mem_abort, up to 6.6
    "no syndrome": (
        Failure(kind="undef-injected", arch="arm64", host=Host(events=(event("access-without-syndrome"),))),
        "emulation-no-handler"),
    "ENOSYS on arm64": (Failure(kind="run-error", arch="arm64", errno="ENOSYS"), "emulation-no-handler"),
    "EINVAL on arm64": (Failure(kind="run-error", arch="arm64", errno="EINVAL", exit_reason=9), "run-errno"),
    "FAIL_ENTRY on arm64": (Failure(kind="entry-failure", arch="arm64", hardware_error=1), "entry-refused-controls"),
    # arch/arm64/kvm/handle_exit.c sets the exit and nothing else: the suberror is of the union's last use
    "a stale suberror on arm64": (Failure(kind="internal-error", arch="arm64", suberror=3), "exit-unhandled"),
    "VSX on a device": (Failure(kind="internal-error", arch="ppc64", suberror=1), "emulation-gives-up"),
    # 0x80000021 is a number of VMX's; a reason of another architecture is none
    "no VS file": (Failure(kind="entry-failure", arch="riscv64", hardware_error=1), "entry-refused-controls"),
    "HYP panic": (Failure(kind="host-trouble", arch="arm64", host=Host(events=(event("hyp-panic"),))), "host-trouble"),
    # arch/riscv/kvm/vcpu_insn.c: kvm_riscv_vcpu_mmio_load, -EOPNOTSUPP; vcpu_exit.c: gstage_page_fault
    "a load of floating point": (
        Failure(kind="run-error", arch="riscv64", errno="EOPNOTSUPP",
                host=Host(events=(event("riscv-exit-state", scause=21),))),
        "emulation-no-handler"),
    "a fetch on riscv64": (
        Failure(kind="run-error", arch="riscv64", errno="EOPNOTSUPP",
                host=Host(events=(event("riscv-exit-state", scause=20),))),
        "fetch-not-ram"),
    "the same from a trace": (
        Failure(kind="run-error", arch="riscv64", errno="EOPNOTSUPP", exit=Exit(reason=20)), "fetch-not-ram"),
    "a store of floating point in a trace": (
        Failure(kind="run-error", arch="riscv64", errno="EOPNOTSUPP", exit=Exit(reason=23)), "emulation-no-handler"),
    "a misaligned load in a trace": (
        Failure(kind="run-error", arch="riscv64", errno="EIO", exit=Exit(reason=21)), "run-errno"),
    # arch/powerpc/kvm/book3s_hv.c passes an errno in the place of a trap
    "a trap that is an errno": (
        Failure(kind="unknown-exit", arch="ppc64", hardware_reason=(1 << 64) - 22), "exit-unknown-to-kvm"),
    # arch/powerpc/kvm/book3s_pr.c: a program check for each
    "KVM-PR": (
        Failure(kind="undef-injected", arch="ppc64", host=Host(events=(event("ppc-emulation-failed"),))),
        "guest-loops"),
    "an unexpected exit in the log": (
        Failure(kind="host-trouble", host=Host(events=(event("unexpected-exit", reason=0x33),))), "exit-unhandled"),
    "a warning": (Failure(kind="host-trouble", host=Host(events=(event("warning"),))), "host-trouble"),
    "exchange as write": (
        Failure(kind="undef-injected", host=Host(events=(event("exchange-as-write"),))), "guest-loops"),
    "an oops after it": (
        Failure(kind="host-trouble", host=Host(events=(event("exchange-as-write"), event("oops")))), "host-trouble"),
    "a paused domain": (Failure(kind="symptom", symptom=Symptom(kind="paused-unknown")), "not-shown"),
    "a trace in which nothing fails": (Failure(kind="healthy"), "not-shown"),
    "an internal error without its number": (Failure(kind="internal-error", exit_reason=17), "not-shown"),
    "a #UD that nobody heard of": (
        Failure(kind="other", silent=True, emulation=Emulation(rip=0x1000, cs_base=0, insn=b"\x0f\xae\x27")),
        "undef-injected"),
    # EXIT_REASON_TRIPLE_FAULT is 2 (SDM 3D, appendix C)
    "a traced triple fault": (
        Failure(kind="healthy", trace=(Event(name="kvm_exit", fields={"exit_reason": 2, "isa": 1}),)), "triple-fault"),
    "the same exit for ever": (
        Failure(kind="healthy",
                trace=(Event(name="kvm_exit", fields={"exit_reason": 49, "guest_rip": 0x1000, "isa": 1}),) * 8),
        "guest-loops"),
    # a kernel before 5.16 gave the VMM no words; the dump of the VMCB beside its record has them (APM 2, 15.25.6)
    "a fetch that the VMCB names": (
        Failure(kind="internal-error", suberror=1, ndata=0,
                exit=Exit(reason=0x400, info1=0x100000014, info2=0xFC000, isa="svm")),
        "fetch-not-ram"),
    # UD2 is defined to raise #UD (SDM vol. 2B)
    "a guest's own UD2": (
        Failure(kind="other", silent=True,
                emulation=Emulation(rip=0xF001F, cs_base=0, insn=b"\x0f\x0b", mode="prot32")),
        "not-shown"),
    # walk_addr_generic: the hardware walks what KVM's own walk calls reserved
    "KVM's own walk": (
        Failure(kind="internal-error", suberror=1, emulation=Emulation(rip=0x133025, cs_base=0, insn=b"\xec"),
                trace=(Event(name="kvm_exit"), Event(name="kvm_mmu_walker_error", fields={"pferr": 9}))),
        "emulation-gives-up"),
}  # fmt: skip


@pytest.mark.parametrize(("failure", "slug"), RECORDS.values(), ids=RECORDS.keys())
def test_a_record_has_one_mechanism(failure: Failure, slug: str) -> None:
    """Records whose text another reader's tests hold, of every kind and architecture."""
    assert mechanism(gather(failure)).id == slug


@given(
    st.builds(
        Failure,
        kind=st.sampled_from(
            (
                *(
                    "internal-error",
                    "entry-failure",
                    "unknown-exit",
                    "run-error",
                    "shutdown",
                    "exception-exit",
                    "other",
                ),
                *("setup-refused", "undef-injected", "symptom", "host-trouble", "not-kvm", "healthy", "unread"),
            )
        ),
        arch=st.sampled_from((None, "x86", "arm64", "riscv64", "s390x", "ppc64")),
        suberror=st.sampled_from((None, 0, 1, 2, 3, 4, 5)),
        ndata=st.none() | st.integers(0, 16),
        data=st.lists(st.integers(0, 2**64 - 1), max_size=16).map(tuple),
        hardware_error=st.none() | st.integers(0, 2**64 - 1),
        hardware_reason=st.none() | st.integers(0, 2**64 - 1),
        exception=st.none() | st.integers(0, 255),
        errno=st.none() | st.sampled_from(("EFAULT", "ENOSYS", "EOPNOTSUPP", "X")),
        exit_reason=st.none() | st.integers(0, 50),
    )
)
def test_any_record_has_exactly_one(failure: Failure) -> None:
    """Whatever was torn: one slug of the list, one sentence, no exception."""
    found = mechanism(gather(failure))
    assert found.id in MECHANISMS
    assert found.text.endswith(".")
    assert found.certainty in {"certain", "likely", "possible"}
    assert all(proof.text for proof in (*found.for_, *found.against))


def test_a_proof_points_at_the_word_that_it_reads() -> None:
    """prepare_emulation_failure_exit: with bytes the exit words begin at data[3], without at data[1]."""
    with_bytes = answer(extra(1, *flags_and_bytes("0f0b"), 0x31, 0, 0x80000306, 0, 0) + LONG)
    assert 5 in {proof.at.word for proof in with_bytes.for_ if proof.at}
    without = answer(extra(1, 0, 0x30, 0x584, 0, 0, 0) + FLAT.format(eip=0xB0000))
    assert 2 in {proof.at.word for proof in without.for_ if proof.at}


def test_every_proof_of_a_text_names_its_line() -> None:
    """What was read of a log says in which line it stood."""
    for text, _ in ROWS.values():
        first, *_ = answer("some other line\n" + text).for_
        assert first.at is not None
        assert first.at.line is not None


def test_a_triple_fault_names_what_led_to_it() -> None:
    """The record holds the trace: the exception that the guest could not take is the answer."""
    trace = (
        Event(name="kvm_exit", fields={"exit_reason": 0}),
        Event(name="kvm_inj_exception", fields={"exception": 6, "has_error": 0}),
        Event(name="kvm_exit", fields={"exit_reason": 2}),
    )
    found = mechanism(gather(Failure(kind="shutdown", exit_reason=8, trace=trace)))
    assert found.id == "triple-fault"
    assert "#UD" in found.text
    assert found.for_[-1].at is not None
    assert found.for_[-1].at.event == 1

"""Statements that were once said and are not true, by kind: a text that shows the kind, and what is said of it now.

The texts are made from the format strings of the programs that print them (QEMU's kvm-all.c, the kernel's trace.h and
vmx.c, Firecracker's vstate/vcpu.rs, kvm-unit-tests' lib/x86/desc.c).
"""

from __future__ import annotations

import pytest

from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read
from kvmwhy.render.text import explanation

ZEROS = " ".join(["00"] * 29)
REAL_MODE = (
    "EAX=00000000 EBX=00000000 ECX=00000000 EDX=00000000\n"
    "ESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000\n"
    "EIP={eip} EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n"
    "ES =0000 00000000 0000ffff 00009300\nCS ={cs} 0000ffff 00009b00\nSS =0000 00000000 0000ffff 00009300\n"
    "DS =0000 00000000 0000ffff 00009300\nFS =0000 00000000 0000ffff 00009300\nGS =0000 00000000 0000ffff 00009300\n"
    "LDT=0000 00000000 0000ffff 00008200\nTR =0000 00000000 0000ffff 00008b00\nGDT=     00000000 0000ffff\n"
    "IDT=     00000000 0000ffff\nCR0={cr0} CR2=00000000 CR3=00000000 CR4=00000000\n"
    "DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000\n"
    "DR6=00000000ffff0ff0 DR7=0000000000000400\nEFER=0000000000000000\nCode={code}\n"
)
BARE = "KVM internal error. Suberror: 1\nemulation failure\n"
AP_AT_B0000 = REAL_MODE.format(eip="00000000", cs="b000 000b0000", cr0="60000010", code=f"<00> {ZEROS}").replace(
    "EDX=00000000", "EDX=000a0652"
)
TRACED = (
    " qemu-system-x86-9 [000] ..... 1.000001: kvm_exit: vcpu 0 reason npf rip 0x8077 info1 0x000000010000000c "
    "info2 0x00000000000a0000 intr_info 0x00000000 error_code 0x00000000\n"
    " qemu-system-x86-9 [000] ..... 1.000002: kvm_emulate_insn: 0:8077:d9 03 (prot64) failed\n"
    " qemu-system-x86-9 [000] ..... 1.000003: kvm_userspace_exit: reason KVM_EXIT_INTERNAL_ERROR (17)\n"
)
DELIVERY_TRACED = (
    " qemu-system-x86-9 [000] ..... 1.000001: kvm_exit: vcpu 0 reason npf rip 0x807c info1 0x0000000100000006 "
    "info2 0x00000000400007f8 intr_info 0x80000306 error_code 0x00000000\n"
    " qemu-system-x86-9 [000] ..... 1.000002: kvm_userspace_exit: reason KVM_EXIT_INTERNAL_ERROR (17)\n"
)
OWN_UD = (
    " qemu-system-x86-9 [000] ..... 1.000001: kvm_exit: vcpu 0 reason UD excp rip 0x8072 info1 0x0000000000000000 "
    "info2 0x0000000000000000 intr_info 0x00000000 error_code 0x00000000\n"
    " qemu-system-x86-9 [000] ..... 1.000002: kvm_emulate_insn: 0:8072:0f 0b (prot64)\n"
    " qemu-system-x86-9 [000] ..... 1.000003: kvm_inj_exception: #UD (0x0)\n"
    " qemu-system-x86-9 [000] ..... 1.000004: kvm_entry: vcpu 0, rip 0x8072\n"
    " qemu-system-x86-9 [000] ..... 1.000005: kvm_exit: vcpu 0 reason shutdown rip 0x8072 info1 0x0000000000000000 "
    "info2 0x0000000000000000 intr_info 0x80000306 error_code 0x00000000\n"
    " qemu-system-x86-9 [000] ..... 1.000006: kvm_userspace_exit: reason KVM_EXIT_SHUTDOWN (8)\n"
)
PAGE_AFTER_PAGE = "".join(
    f" qemu-system-x86-9 [000] ..... 1.{n:06}: kvm_exit: vcpu 0 reason npf rip 0x803e info1 0x0000000100000006 "
    f"info2 0x{0x500000 + n * 0x1000:016x} intr_info 0x00000000 error_code 0x00000000\n"
    for n in range(6)
)
MANY_VCPUS = (
    "qemu-system-x86_64: -accel kvm: warning: Number of SMP cpus requested (4) exceeds the recommended cpus "
    "supported by KVM (2)\n"
)
TOO_MANY_VCPUS = (
    "qemu-system-x86_64: -accel kvm: Number of SMP cpus requested (2000) exceeds the maximum cpus"
    " supported by KVM (1024)\n"
)
OOM = (
    "[  184.684356] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/vm,"
    "task_memcg=/vm,task=qemu-system-x86,pid=560,uid=0\n"
    "[  184.685664] Memory cgroup out of memory: Killed process 560 (qemu-system-x86) total-vm:301564kB, "
    "anon-rss:60168kB, file-rss:12kB, shmem-rss:21756kB, UID:0 pgtables:300kB oom_score_adj:0\n"
)
HALF_DUMP = (
    "[    1.000001] kvm_intel: *** Host State ***\n"
    "[    1.000002] kvm_intel: RIP = 0xffffffffc0699430  RSP = 0xffffa86e8182bc68\n"
    "[    1.000003] kvm_intel: CR0=0000000080050033 CR3=0000000074992000 CR4=00000000000026f\n"
)
S390 = (
    "ioctl(KVM_CREATE_VM) failed: 22 Invalid argument\nHost kernel setup problem detected. Please verify:\n"
    "- for kernels supporting the vm.allocate_pgste sysctl, whether it is enabled\n"
)
CUT_AT_THE_END = BARE + REAL_MODE.format(
    eip="0000ffff", cs="f000 000f0000", cr0="60000010", code="90 " * 20 + "<8b> " + " ".join(["??"] * 29)
)
ZEROS_IN_RAM = BARE + REAL_MODE.format(
    eip="0000cd12", cs="0010 00000000", cr0="60000011", code=f"<00> {ZEROS}"
).replace("CS =0010 00000000 0000ffff 00009b00", "CS =0010 00000000 ffffffff 00c09b00 DPL=0 CS32 [-RA]").replace(
    "EAX=00000000", "EAX=b0000000"
)
SETUP_MSR = "qemu-system-x86_64: error: failed to set MSR {} to 0x0\n"
OUTSIDE_RAM = "qemu: fatal: Trying to execute code outside RAM or ROM at 0x000a0063\n\n"
LOST_WORDS = "extra data[7]: 0x0000000000000000\n" + BARE.splitlines()[1] + "\n"


def said(text: str) -> str:
    """All that a person may read of it."""
    failures = read(text.encode()).failures
    return "\n".join(f"{line.label}{line.text}" for failure in failures for line in explanation(diagnose(failure)))


@pytest.mark.parametrize(
    ("text", "there", "absent"),
    [
        (TRACED, "what the VMM printed", "- the extra data lines"),
        (TRACED, "the trace of the emulation says so", "registers were printed"),
        (DELIVERY_TRACED, "#UD could not be delivered", "nothing failed"),
        (DELIVERY_TRACED, "0x400007f8", "which one is not shown"),
        (OWN_UD, "the guest raised #UD, which KVM intercepts and passed on", "which KVM had put into it"),
        (OWN_UD, "triple fault", "this VMM sets the vCPU's first state by itself"),
        (PAGE_AFTER_PAGE, "Nothing fails", "again and again"),
        (BARE + AP_AT_B0000, "start-up IPI", "ran off the end of low memory"),
        (BARE + AP_AT_B0000, "vector of the start-up IPI", "Find who jumped to 0x0"),
        (TOO_MANY_VCPUS, "KVM_CREATE_VCPU was refused", "nothing failed"),
        (OOM, "the memory limit of a cgroup was reached", "oom called"),
        (OOM, "The guest ended with its VMM", "What became of a guest is not shown"),
        (HALF_DUMP, "a dump of the VMCS", "VMXE"),
        (HALF_DUMP, "the rest of this dump", "first line is missing"),
        (S390, "vm.allocate_pgste", "Collect:"),
        (CUT_AT_THE_END, "KVM could not read on there", "gave it up"),
        (ZEROS_IN_RAM, "The guest runs zeros", "readl"),
        (SETUP_MSR.format("0x174"), "sets MSR 0x174", "out of the CPU model"),
        (SETUP_MSR.format("0x345"), "-pdcm", "out of the CPU model"),
        (
            "[a:fc_vcpu 0:ERROR:src/vmm/src/vstate/vcpu/mod.rs:475] Received KVM_EXIT_INTERNAL_ERROR signal\n",
            "never printed by firecracker",
            "Nothing has to be mended",
        ),
        (
            "Unhandled exception 6 #UD at ip 0000000000401387\nerror_code=0000      rflags=00010046      cs=00000008\n",
            "an exception that it has no handler for",
            "the text says so",
        ),
        (OUTSIDE_RAM, "that hypervisor itself", "host's kernel"),
        (LOST_WORDS, "the other extra data lines", "- the extra data lines"),
        ("error: kvm run failed\n", "the errno: what the VMM printed", "what backs"),
    ],
)  # fmt: skip
def test_what_is_said_is_true_of_the_text(text: str, there: str, absent: str) -> None:
    """The statement that fits is there; the one that did not is not."""
    answer = said(text)
    assert there in answer
    assert absent not in answer


def test_a_warning_is_no_refusal() -> None:
    """QEMU goes on with more vCPUs than the host has CPUs (accel/kvm/kvm-all.c: soft_vcpus_limit)."""
    assert read(MANY_VCPUS.encode()).failures == ()
    failures = read((MANY_VCPUS + BARE + AP_AT_B0000).encode()).failures
    assert [failure.kind for failure in failures] == ["internal-error"]


def test_nothing_that_is_weighed_is_called_sure() -> None:
    """A share is never printed as 100 %."""
    from kvmwhy.render.whose import percent

    assert percent(0.9999) == "over 99 %"
    assert percent(0.994) == "99 %"
    assert percent(0.5) == "50 %"


def test_an_endbr_of_unknown_age_is_not_certain() -> None:
    """It decodes since 5.8, and no record of a trace shows which kernel it was."""
    trace = (
        " qemu-system-x86-9 [000] ..... 1.000001: kvm_emulate_insn: ffff0000:fff0:f3 0f 1e fb (real) failed\n"
        " qemu-system-x86-9 [000] ..... 1.000002: kvm_userspace_exit: reason KVM_EXIT_INTERNAL_ERROR (17)\n"
    )
    mechanism = diagnose(read(trace.encode()).failures[0]).mechanism
    assert mechanism is not None
    assert mechanism.certainty != "certain"

"""What stands beside a failure in the host's log, and what a hostile log can do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.ingest.normalize import Text, clean
from kvmwhy.readers import kernel_log
from kvmwhy.render.safe import safe

UNEXPECTED = "[ 9.0] kvm [4711]: vcpu0, guest rIP: 0xfff0 vmx: unexpected exit reason 0x33"

# Lines as kernels print them (vmx.c, vmx_ops.h, x86.c, bus_lock.c, oom_kill.c, watchdog.c, mce), and what each gives.
LINES = [
    ("kvm [11]: vcpu0, guest rIP: 0xffffffff8105 unhandled rdmsr: 0x611", "the guest read MSR 0x611"),
    ("kvm [11]: ignored rdmsr: 0x122 data 0x0", "the guest read MSR 0x122"),
    ("kvm: vcpu1, guest rIP: 0x1 Unhandled RDMSR(0xc0011029)", "the guest read MSR 0xc0011029"),
    ("kvm [11]: vcpu2, guest rIP: 0x1 disabled perfctr wrmsr: 0xc2 data 0xffff", "the guest wrote MSR 0xc2"),
    ("kvm: vcpu1, guest rIP: 0x1 Unhandled WRMSR(0x8b) = 0x0", "the guest wrote MSR 0x8b"),
    ("kvm: emulating exchange as write", "locked instruction as a plain write"),
    ("kvm: MONITOR instruction emulated as NOP!", "KVM carried out MONITOR as if it were NOP"),
    ("kvm: vmread failed: field=4402", "VMREAD failed (field 4402)"),
    (
        "kvm_intel: vmwrite failed: field=6802 val=80050033 err=12",
        "VMWRITE failed (field 6802, VM-instruction error 12)",
    ),
    ("kvm: vmclear fail: ffff88810000/100000", "VMCLEAR failed"),
    ("kvm: vmptrld 00000000c5a9/17dd6b000 failed", "VMPTRLD failed"),
    ("kvm: disabled by bios", "switched off in this host's firmware"),
    ("x86/cpu: VMX (outside TXT) disabled by BIOS", "VMX outside TXT is switched off"),
    ("ept_misconfig_inspect_spte: spte 0x84c236107 level 4", "0x84c236107 at level 4"),
    (
        "WARNING: CPU: 3 PID: 99 at arch/x86/kvm/vmx/vmx.c:5233 handle_ept",
        "warned in KVM, at arch/x86/kvm/vmx/vmx.c:5233",
    ),
    (
        "WARNING: arch/x86/kvm/x86.c:42 at kvm_arch_x+0x1/0x2 [kvm], CPU#3: qemu/99",
        "warned in KVM, at arch/x86/kvm/x86.c:42",
    ),
    ("kernel BUG at arch/x86/kvm/x86.c:12!", "KVM found a bug in itself, at arch/x86/kvm/x86.c:12"),
    ("kernel BUG at mm/slub.c:379!", "the host's kernel hit a BUG at mm/slub.c:379"),
    ("Oops: 0000 [#1] SMP NOPTI", "oopsed"),
    ("mce: [Hardware Error]: CPU 4: Machine Check: 0 Bank 5: be00", "hardware errors"),
    ("watchdog: BUG: soft lockup - CPU#7 stuck for 22s! [CPU 0/KVM:4711]", "CPU 7 was stuck for 22 s"),
    ("x86/split lock detection: #AC: CPU 0/KVM/88279 took a split_lock trap at address: 0xfffff801", "0xfffff801"),
    (
        "Out of memory: Killed process 4711 (qemu-system-x86) total-vm:9kB",
        "ran out of memory and killed qemu-system-x86",
    ),
    ("kvm: exiting hardware virtualization", "the host was shutting down"),
    ("INFO: task CPU 2/KVM:4711 blocked for more than 120 seconds.", "hung for more than 120 s"),
]


@pytest.mark.parametrize(("line", "fact"), LINES)
def test_a_line_beside_a_failure_is_a_fact(line: str, fact: str) -> None:
    """What else the kernel said then stands with the failure, in words; it makes no failure of its own."""
    (failure,) = kernel_log.read(Text(f"[ 8.9] {line}\n{UNEXPECTED}\n")).failures
    assert any(fact in sentence for sentence in failure.host.facts), failure.host.facts
    alone = kernel_log.read(Text(f"[ 8.9] {line}\n")).failures
    assert all((told.kind, told.cpu, told.exit) == ("other", None, None) for told in alone)


def test_what_stands_far_away_is_not_beside_it() -> None:
    """A log of weeks has lines that have nothing to do with this failure."""
    text = "kvm [11]: ignored rdmsr: 0x122\n" + "systemd[1]: Started.\n" * 1000 + UNEXPECTED + "\n"
    (failure,) = kernel_log.read(Text(text)).failures
    assert failure.host.facts == ()


def test_a_misconfigured_ept_is_an_unknown_exit() -> None:
    """Kernels up to 4.x gave it to userspace as KVM_EXIT_UNKNOWN with reason 49, and logged the entries."""
    text = (
        "kernel: EPT: Misconfiguration.\nkernel: EPT: GPA: 0x108ba4538\n"
        "kernel: ept_misconfig_inspect_spte: spte 0x1028125d77 level 1\n"
    )
    (failure,) = kernel_log.read(Text(text)).failures
    assert (failure.kind, failure.hardware_reason) == ("unknown-exit", 49)
    assert any("0x1028125d77 at level 1" in fact for fact in failure.host.facts)


def test_an_exit_without_handler_names_vcpu_and_release() -> None:
    """The line alone is a failure; the log's first line names the kernel."""
    text = f"[ 0.0] Linux version 6.6.12-x (gcc) #1\n{UNEXPECTED}\n[ 9.1] set kvm_intel.dump_invalid_vmcs=1 to dump\n"
    (failure,) = kernel_log.read(Text(text)).failures
    assert (failure.suberror, failure.data, failure.source.vcpu, failure.source.line) == (4, (0x33,), 0, 2)
    assert failure.host.kernel == "6.6.12-x"


TOKENS = (
    *(line for line, _ in LINES),
    UNEXPECTED,
    "VMCS 00000000fc71b951, last attempted VM-entry on CPU 3",
    "SVM vCPU0 VMCB 00000000fc71b951, last attempted VMRUN on CPU 3",
    "*** Guest State ***",
    "*** Host State ***",
    "*** Control State ***",
    "VMCB Control Area:",
    "VMCB State Save Area:",
    "CS:   sel=0x0018, attr=0x0e09b, limit=0xffffffff, base=0x0000000000000000",
    "cs:   s: 0018 a: 0e9b l: ffffffff b: 0000000000000000",
    "        reason=80000021 qualification=0000000000000000",
    "exit_code:          ffffffff",
    "asid:               -99999999999999999999",
    "intercepts:         " + "f" * 300,
    "GDTR:" + " " * 5000 + "limit=0x",
    "[  1.0][ T1] ",
    "[ 99999999999999.9]",
    "\x1b[31m",
    "\n",
    "\n" * 20,
)


@settings(deadline=None)
@given(st.lists(st.one_of(st.sampled_from(TOKENS), st.text(max_size=30)), max_size=60))
def test_nothing_raises(tokens: list[str]) -> None:
    """Any order of pieces of real lines, with anything between them."""
    for failure in kernel_log.read(clean("\n".join(tokens).encode(errors="replace"))).failures:
        for sentence in (*failure.host.facts, *failure.damage):
            assert safe(sentence) == sentence


@pytest.mark.parametrize("token", TOKENS)
def test_much_of_one_thing_ends(token: str) -> None:
    """A log of one token only: quadratic work would take minutes."""
    text = (token + "\n") * (120_000 // (len(token) + 1))
    kernel_log.read(Text(text))
    kernel_log.read(Text(text.replace("\n", "")))

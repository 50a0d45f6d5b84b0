"""What people write around a record is kept as kinds of statements: made, denied, and in any amount of prose."""

from __future__ import annotations

import pytest

from kvmwhy.readers import read
from kvmwhy.readers.circumstances import circumstances_of

FAULT = "error: kvm run failed Bad address\n"


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("The same image works fine on bare metal.", "works-on-metal"),
        ("On real hardware it works, here it does not.", "works-on-metal"),
        ("It only happens in a nested guest", "only-nested"),
        ("After the microcode update it is stable.", "microcode-cured"),
        ("It was fixed by new microcode", "microcode-cured"),
        ("Replacing the second DIMM solved it", "parts-replaced-cured"),
        ("It was a faulty CPU in the end", "parts-replaced-cured"),
        ("git bisect says:\n0123456789ab KVM: x86: change something", "kernel-changed"),
        ("Reverting that commit makes it go away", "kernel-changed"),
        ("since upgrading the host kernel it dies", "kernel-changed"),
        ("It worked with kernel 5.15", "kernel-changed"),
        ("After the update of QEMU to 9.0 it dies", "vmm-changed"),
        ("Works with qemu 6.2, fails with 7.0", "vmm-changed"),
        ('> Fixes: 0123456789ab ("KVM: x86: a change")', "patch-of-kvm"),
        ("diff --git a/arch/arm64/kvm/arm.c b/arch/arm64/kvm/arm.c", "patch-of-kvm"),
        ("Subject: [PATCH v2 3/4] KVM: nVMX: a change", "patch-of-kvm"),
        ('Fixes: 0123456789ab ("target/i386: a change")', "patch-of-vmm"),
        ("diff --git a/accel/kvm/kvm-all.c b/accel/kvm/kvm-all.c", "patch-of-vmm"),
        ("Board: RockPro64 with Armbian", "two-kinds-of-cores"),
        ("on an RK3588", "two-kinds-of-cores"),
        ("[    1.2] virt/tdx: module initialized", "tdx-initialized"),
        ("[    3.1] kvm_amd: SEV-SNP enabled (ASIDs 1 - 99)", "snp-initialized"),
        ("[    3.1] kvm_amd: SEV enabled (ASIDs 100 - 509)", "sev-initialized"),
        ("$ egrep -c '(vmx|svm)' /proc/cpuinfo\n0", "no-vmx-or-svm"),
        ("`grep -E 'svm|vmx' /proc/cpuinfo` shows nothing", "no-vmx-or-svm"),
        ("flags\t\t: fpu vme de pse " + "tsc msr pae " * 30, "no-vmx-or-svm"),
    ],
)
def test_a_statement_is_kept_as_its_kind(text: str, slug: str) -> None:
    """One slug for each kind of statement; the record beside it carries it."""
    assert circumstances_of(text) == (slug,)
    (failure,) = read(f"{text}\n\n{FAULT}".encode()).failures
    assert slug in failure.host.remarks


@pytest.mark.parametrize(
    "text",
    [
        "A microcode update did not help.",
        "$ egrep -c '(vmx|svm)' /proc/cpuinfo\n16",
        "If egrep -c '(vmx|svm)' /proc/cpuinfo returns 0, switch it on.",
        "flags\t\t: fpu vme de pse " + "tsc msr pae " * 30 + "vmx smx",
        "[    3.1] kvm_amd: SEV-SNP disabled",
        "The microcode is current, which has not fixed it",
        "It does not work on bare metal either",
        "The same happens on bare metal",
        "Booting paravirtualized kernel on bare hardware",  # arch/x86/kernel/paravirt.c: default_banner
        "microcode: updated early: 0x1 -> 0x2, date = 2020-01-01",
        "Replacing the DIMMs did not solve it",
        "Updating the guest's kernel helped",
        "Kernel: Linux 6.8",
        "Running with QEMU 8.2 on kernel 6.5",
        "No upgrade of the kernel was made",
        "Proxmox is installed on bare metal, and the VM starts and crashes",
        "The host runs Linux 6.1 on bare metal",
        "The VM runs Linux 5.15 and hangs",
        "It boots with QEMU 8.2 and dies after a minute",
        "The guest launches on kernel 6.8, and then",
    ],
)
def test_what_is_denied_or_only_named_is_no_statement(text: str) -> None:
    """Versions and dmesg's lines stand in every report, and who says that it did not help has ruled it out."""
    assert circumstances_of(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        "fine on " * 20_000 + "metal",
        "microcode " * 20_000 + "fix",
        "bisect " * 20_000,
        "replacing a b c d " * 10_000 + "hardware",
        "after a b updating " * 10_000 + "kernel",
        "Fixes: 01234567 " * 10_000,
    ],
)
def test_repeated_prose_comes_to_an_end(text: str) -> None:
    """Every pattern is bounded; one that is not would take hours here."""
    assert len(circumstances_of(text)) <= 1

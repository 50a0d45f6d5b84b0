"""Errata and defects of CPUs: the processor reported what its manual excludes, or works wrongly."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.cause import Fix
from kvmwhy.diagnosis.knowledge.bug import Bug
from kvmwhy.diagnosis.knowledge.predicate import Shape

BUGS: Final = (
    Bug(
        id="bug-spr-apicv-vp-assist",
        same="impossible-vectoring",
        title=(
            "Sapphire and Emerald Rapids report a stale interrupt in delivery when a Windows guest uses the VP assist"
            " page"
        ),
        origin="cpu",
        family="cpu-erratum",
        shape=Shape("internal-error", 3, vendor="vmx", reason=(32,), event=((0,), None)),
        hints=Shape(registers=(("rcx", (1 << 64) - 1, 0x4000_0070),)),
        what=(
            "With APICv on, these CPUs leave an interrupt marked as being delivered that was delivered long ago. The"
            " next exit, a write of the guest to Hyper-V's EOI register (MSR 0x40000070), then looks as if it came in"
            " the middle of a delivery, which cannot be."
        ),
        fix=Fix(
            vmm="Start the guest without hv-vapic.",
            host="Update the microcode; load kvm_intel with enable_apicv=0.",
        ),
        references=(
            "https://bugzilla.kernel.org/show_bug.cgi?id=218267",
            "kvm list, 2024-08-06, Eiichi Tsukata: inhibit APICv while the VP assist page is in use",
        ),
        example="suberror 3: 0x8000002f 0x20 0x582 0x6, wrmsr with RCX=0000000040000070",
        confused_with="impossible-vectoring: the same contradiction on other CPUs, or under another hypervisor.",
        corpus=("001-spr-apicv-hv-vp-assist",),
    ),
    Bug(
        id="bug-vmresume-not-launched",
        same="vmresume-of-unlaunched",
        title="VMRESUME of a running guest failed as if the guest had never been launched",
        origin="cpu",
        family="cpu-erratum",
        shape=Shape("entry-failure", hardware_error=(5,), mode=("long64",), reset=("ran",)),
        what=(
            "KVM chooses between VMLAUNCH and VMRESUME by a flag of its own, and a review found no race in it. Where"
            " this was reported, out of the blue and in an idle guest, a new CPU ended it."
        ),
        fix=Fix(
            host="Move the VMs away, run a stress test of the CPU, update its microcode, replace it if it comes back."
        ),
        references=("https://bugzilla.kernel.org/show_bug.cgi?id=197813",),
        example="hardware error 0x5 in the idle loop of a Linux guest",
        confused_with="outer-hypervisor-entry: a hypervisor around the host that loses track of the VMCS.",
        corpus=("030-hw-error-5-vmresume-nonlaunched",),
    ),
    Bug(
        id="bug-tdx-poisoned-memory",
        same="tdx-status",
        title="A memory error hit a trust domain, and the TDX module will not run it any more",
        origin="confidential-stack",
        family="confidential-guest",
        shape=Shape("internal-error", 4, first_word=0xE000_0604_0000_0000),
        what=(
            "After a machine check in a domain's private memory the TDX module marks the domain as broken: every later"
            " entry returns this status, on each vCPU, and KVM reports it as an exit reason that it does not know."
        ),
        fix=Fix(
            guest="Start the domain again; it cannot be continued.",
            host="Read the machine-check lines of the host's log and replace the memory that they name.",
        ),
        references=("arch/x86/kvm/vmx/tdx.c: unexpected return of TDH.VP.ENTER (since v6.16)",),
        example="suberror 4: 0xe000060400000000, 0x31, on every vCPU, beside mce: Memory error not recovered",
        confused_with="confidential-guest: other statuses of the TDX module.",
        corpus=("004-tdx-mce-seamcall-suberror4",),
    ),
)

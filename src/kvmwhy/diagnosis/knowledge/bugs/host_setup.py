"""Not a bug of one program but of how the host is set up: parameters, modules, command lines."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.cause import Fix
from kvmwhy.diagnosis.knowledge.bug import Bug
from kvmwhy.diagnosis.knowledge.predicate import Shape

BUGS: Final = (
    Bug(
        id="bug-emulate-invalid-state-off",
        title="kvm_intel was loaded with emulate_invalid_guest_state=0, so big real mode cannot run",
        origin="host-setup",
        family="invalid-guest-state",
        shape=Shape("entry-failure", hardware_error=(0x8000_0021,), mode=("real16",), big_segments=True),
        hints=Shape(smm=False),
        what=(
            "Recipes for macOS and nested guests copy this parameter from each other. It forbids KVM to emulate states"
            " that the CPU cannot enter; without unrestricted guest the BIOS's big real mode is such a state, and the"
            " entry fails."
        ),
        fix=Fix(
            host=(
                "Remove emulate_invalid_guest_state=0 from /etc/modprobe.d and reload kvm_intel; check that ept and"
                " unrestricted_guest in /sys/module/kvm_intel/parameters are Y."
            )
        ),
        references=("Documentation/admin-guide/kernel-parameters.txt: kvm-intel.emulate_invalid_guest_state",),
        example="hardware error 0x80000021 in SeaBIOS, DS limit ffffffff with CR0.PE clear",
        confused_with="invalid-guest-state: on a CPU with unrestricted guest big real mode is valid.",
    ),
    Bug(
        id="bug-patched-kvm-unhandled-exit",
        title="A patched kvm_intel intercepts an instruction and has no handler for it",
        origin="host-kernel",
        family="unhandled-exit",
        shape=Shape("internal-error", 4, reason=(16, 51, 67, 68)),
        hints=Shape(vendor="vmx"),
        what=(
            "Stock KVM lets the guest run RDTSC, RDTSCP, UMWAIT and TPAUSE by itself. Patches that hide the hypervisor"
            " or bend the clock intercept them, and where their handler is missing, or was made for another kernel, the"
            " VM stops."
        ),
        fix=Fix(
            vmm="Hide the instruction's feature (rdtscp, waitpkg) from the guest's CPUID.",
            host="Unload the patched module and load the kernel's own kvm_intel.",
        ),
        references=(
            "https://github.com/Scrut1ny/AutoVirt/issues/51",
            'bf653b78f960 ("KVM: vmx: Introduce handle_unexpected_vmexit and handle WAITPKG vmexit")',
        ),
        example="suberror 4, 0x43 on every vCPU: unexpected exit reason 0x43 (UMWAIT)",
        confused_with="unhandled-exit: with the kernel's own module suspect the hypervisor around the host.",
        corpus=("058-custom-tsc-module-rdtscp",),
    ),
    Bug(
        id="bug-tdx-stack-mismatch",
        title="QEMU and the host's kernel belong to different generations of TDX",
        origin="host-setup",
        family="confidential-guest",
        shape=Shape("run-error", errno=("EIO",), vendor="tdx", reset=("zero", "reset", "unknown")),
        what=(
            "Before TDX was merged (6.16) kernels, QEMU and OVMF came as matching sets. A mixture creates the domain"
            " but can never enter it: every vCPU fails at once with EIO."
        ),
        fix=Fix(host="Install kernel, QEMU and OVMF of one release of the distribution, and boot that kernel."),
        references=("https://github.com/canonical/tdx/issues/348",),
        example="error: kvm run failed Input/output error on every vCPU of a new trust domain",
        confused_with="confidential-guest: domains that had been running.",
    ),
    Bug(
        id="bug-m-counts-mib",
        same="event-delivery-non-ram",
        title="The guest got a few MiB of RAM, because -m counts MiB",
        origin="vm-configuration",
        family="event-delivery",
        shape=Shape(
            "internal-error", 3, reason=(48, 49), structure=("stack frame",), mode=("prot32",), linear=((0, 0x4FF),)
        ),
        what=(
            "-m 1 is one MiB. A boot loader then has its stack past the end of RAM, calls through pointers that read as"
            " zeros, runs into the interrupt vectors at address 0, and the exception that follows cannot be pushed."
        ),
        fix=Fix(vmm="Start with a size and a unit: -m 1G."),
        references=("https://github.com/ALSchwalm/transient/issues/46",),
        example="suberror 3: 0x80000306 0x31 …, EIP=00000007, ESP=0032efe4, qemu -m 1",
        confused_with="event-delivery-non-ram: a guest with enough RAM and a wild stack pointer.",
        corpus=("020-tiny-m-flag-note", "021-transient-m1-asciinema"),
    ),
)

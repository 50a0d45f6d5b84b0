"""Signs from what people write around the record: what cured it, what changed before it, where it does not occur.

The statements themselves are found by ``readers.circumstances``.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.knowledge.sign import STOPPED, Answer, Sign, Test, weights
from kvmwhy.diagnosis.scene import Scene

_FAILED: Final = (*STOPPED, "setup-refused", "exit-unknown-to-vmm", "exit-unknown-to-kvm", "guest-loops", "not-shown")
_OF_A_CPU: Final = frozenset(
    {"KVM_ARM_VCPU_INIT", "KVM_CREATE_VCPU", "KVM_SET_ONE_REG", "KVM_GET_ONE_REG", "registers"}
)
# Registers that kernels read where a #GP is caught: arch/x86/events (branch records, off-core events, load latency,
# RAPL, the "msr" PMU), drivers/powercap, drivers/platform/x86, cpufreq, turbostat's and the microcode driver's.
_PROBED: Final = frozenset(
    (
        *(0x34, 0x8B, 0xCE, 0xE8, 0x140, 0x19C, 0x1A2, 0x1A4, 0x1A6, 0x1A7, 0x1AA, 0x1AD, 0x1B0, 0x1B1, 0x1C8, 0x1C9),
        *(0x3F6, 0x3F7, 0x606, 0x610, 0x611, 0x613, 0x614, 0x618, 0x619, 0x639, 0x641, 0x64D, 0x64E, 0x6B0, 0x6B1),
        *(0xC001_0064, 0xC001_0280, 0xC001_0299, 0xC001_029A, 0xC001_029B, 0xC000_00E7, 0xC000_00E8, 0xC000_00E9),
    )
)


def _stated(slug: str) -> Test:
    def test(scene: Scene) -> Answer:
        return slug in scene.failure.host.remarks

    return test


def _works_without_the_layer_below(scene: Scene) -> Answer:
    """Where no such layer is shown, it is the guest that works on a machine of its own."""
    return scene.outer is not None and "works-on-metal" in scene.failure.host.remarks


def _unlike_cores(scene: Scene) -> Answer:
    on_arm = scene.arch not in {"x86", "ppc64", "ppc", "s390x", "riscv64", "mips"}
    return on_arm and scene.call in _OF_A_CPU and "two-kinds-of-cores" in scene.failure.host.remarks


def _probes_alone(scene: Scene) -> Answer:
    """Nothing but reads that the guest's kernel makes to learn what there is."""
    if not scene.events or scene.failure.cpu is not None:
        return None
    for event in scene.events:
        if event.kind != "msr-unhandled" or event.fields.get("access") not in {"read", "rdmsr"}:
            return None
        if event.fields.get("msr") not in _PROBED:
            return None
    return scene.events[0]


SIGNS: Final = (
    Sign(
        "works-on-metal",
        _FAILED,
        _works_without_the_layer_below,
        "it is said to work where the host is a physical machine",
        weights(outer_hypervisor=2, cpu=-1),
        "The same guest, VMM and kernel without the hypervisor below leave that hypervisor.",
    ),
    Sign(
        "only-nested",
        _FAILED,
        _stated("only-nested"),
        "it is said to fail only inside a virtual machine",
        weights(outer_hypervisor=2, cpu=-1),
        "The same guest, VMM and kernel without a hypervisor below leave that hypervisor.",
    ),
    Sign(
        "microcode-cured",
        (*_FAILED, "host-trouble"),
        _stated("microcode-cured"),
        "a microcode update is said to have cured it",
        weights(cpu=3),
        "Microcode is a part of the CPU.",
    ),
    Sign(
        "parts-replaced-cured",
        (*_FAILED, "host-trouble"),
        _stated("parts-replaced-cured"),
        "another memory module or CPU is said to have cured it",
        weights(host_dying=3, vmm=-0.5, vm_configuration=-0.5),
        "Defective RAM or a defective CPU of the host.",
    ),
    Sign(
        "kernel-changed",
        (*_FAILED, "host-trouble", "undef-injected"),
        _stated("kernel-changed"),
        "the host's kernel is said to have been changed, or to make the difference",
        weights(host_kernel=1.5),
        "A bisection, a revert or another release that works names the kernel.",
    ),
    Sign(
        "vmm-changed",
        _FAILED,
        _stated("vmm-changed"),
        "the VMM is said to have been changed, or to make the difference",
        weights(vmm=1.5),
        "Another release of the VMM that works names the VMM.",
    ),
    Sign(
        "patch-of-kvm",
        (*_FAILED, "host-trouble", "undef-injected"),
        _stated("patch-of-kvm"),
        "beside it stands a patch of the kernel",
        weights(host_kernel=2.5),
        "The part that the fix changes is the one at fault.",
    ),
    Sign(
        "patch-of-vmm",
        (*_FAILED, "host-trouble", "undef-injected"),
        _stated("patch-of-vmm"),
        "beside it stands a patch of QEMU",
        weights(vmm=2.5, outer_hypervisor=0.5),
        "The part that the fix changes is the one at fault; where QEMU is the outer machine, that is the outer hypervisor.",
    ),
    Sign(
        "two-kinds-of-cores",
        ("setup-refused",),
        _unlike_cores,
        "the host's chip has two kinds of cores",
        weights(host_setup=2.5),
        "big.LITTLE: KVM_ARM_VCPU_INIT and ID registers are of the core that the thread happens to run on; pin the VM to one kind.",
    ),
    Sign(
        "probes-alone",
        ("undef-injected",),
        _probes_alone,
        "the guest's kernel only asked which registers there are, and catches the exception",
        weights(none=3, host_kernel=-0.5),
        "rdmsr_safe() in arch/x86/events, drivers/powercap and others.",
    ),
)

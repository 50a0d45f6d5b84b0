"""Signs from KVM_RUN's errno: what backs the address, and who could have taken it away."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.knowledge.sign import Answer, Sign, Test, weights
from kvmwhy.diagnosis.scene import Scene
from kvmwhy.record import At

_RUN: Final = ("run-errno",)
_FIRMWARE: Final = ("bios", "option-rom", "flash", "reset-vector", "low-ram", "ebda")
_VFIO_EVENTS: Final = ("vfio-bar-fault", "device-reset-failed", "device-refused", "vfio-memory-lock", "iommu-fault")
_BAD_MEMORY: Final = ("memory-poisoned", "memory-error", "machine-check")
_KERNELS: Final = (
    "warning",
    "kernel-bug",
    "oops",
    "cut-report",
    "page-state-bad",
    "sanitizer",
    "abort-not-handled",
    "ppc-memory-fault",
)
_EFER_LME: Final = 1 << 8


def _errno(*names: str) -> Test:
    def test(scene: Scene) -> Answer:
        return scene.errno if scene.errno in names else None

    return test


def _backed(*devices: str) -> Test:
    """EFAULT, and the evidence names what lies behind some of the guest's memory."""

    def test(scene: Scene) -> Answer:
        if scene.errno not in {"EFAULT", None}:
            return None
        return next((name for name in devices if name in scene.devices), None)

    return test


def _vfio_trouble(scene: Scene) -> Answer:
    return scene.errno == "EFAULT" and scene.event(*_VFIO_EVENTS)


def _vfio_alone(scene: Scene) -> Answer:
    return scene.errno == "EFAULT" and "vfio" in scene.devices and not scene.event(*_VFIO_EVENTS)


def _firmware(scene: Scene) -> Answer:
    return scene.errno == "EFAULT" and scene.rip_place in _FIRMWARE and At(register="rip")


def _hidden_state(scene: Scene) -> Answer:
    """SEV-ES: what is shown is no state; EFER and CR0 are tracked, RIP and segments are not."""
    cpu = scene.failure.cpu
    if scene.confidential:
        return True
    tracked = cpu is not None and cpu.get("rip") == 0 and bool((cpu.get("efer") or 0) & _EFER_LME)
    return tracked and At(register="efer")


SIGNS: Final = (
    Sign(
        "device-does-not-answer",
        _RUN,
        _vfio_trouble,
        "the host reports trouble with the passed-through device",
        weights(host_setup=2, vm_configuration=0.5, host_kernel=0.5),
        "drivers/vfio/pci: a device that did not come back from its reset, or a fault that could not be served.",
    ),
    Sign(
        "device-passed-through",
        _RUN,
        _vfio_alone,
        "a device is passed through to the guest",
        weights(host_setup=1, host_kernel=1, vm_configuration=0.5),
        "A BAR is not RAM: the host's driver, the device's power state and KVM must agree on how it is mapped.",
    ),
    Sign(
        "ram-in-a-file",
        _RUN,
        _backed("dev-shm", "hugetlb"),
        "the guest's RAM lies in a file or pool of the host ({})",
        weights(host_setup=2),
        "/dev/shm has half of the RAM by default, a huge-page pool what was reserved: both can be full or gone.",
    ),
    Sign(
        "ram-in-some-file",
        _RUN,
        lambda scene: _backed("memory-file")(scene) if not scene.devices & {"dev-shm", "hugetlb"} else None,
        "the guest's RAM lies in a file of the host",
        weights(host_setup=1, host_kernel=0.5),
        "A file system can be full, or its pages be of a kind that KVM cannot map.",
    ),
    Sign(
        "file-behind-dax-window",
        _RUN,
        _backed("virtiofs-dax", "virtiofs"),
        "a file of the host is mapped into the guest ({})",
        weights(host_setup=1, vmm=1),
        "A file that is shorter than its mapping has no page there.",
    ),
    Sign(
        "gpu-memory-in-the-guest",
        _RUN,
        _backed("gpu-blob", "virtio-gpu", "venus", "dma-buf"),
        "memory of the host's graphics driver is mapped into the guest ({})",
        weights(host_kernel=2),
        "KVM before 6.13 could not map pages without a reference count.",
    ),
    Sign(
        "balloon",
        _RUN,
        _backed("balloon", "free-page-reporting"),
        "the guest's memory is taken and given back by a balloon ({})",
        weights(host_kernel=0.5, vmm=0.5, host_setup=0.5),
        "Holes are punched into what backs the RAM.",
    ),
    Sign(
        "fault-in-firmware",
        _RUN,
        _firmware,
        "the guest was in code without paging, as firmware is: most pages are touched for the first time then",
        weights(host_setup=1.5, vm_configuration=0.5),
        "A NUMA policy, a memory limit or an empty pool refuses the first page it is asked for.",
    ),
    Sign(
        "user-program-touched-it",
        _RUN,
        lambda scene: scene.errno == "EFAULT" and scene.cpl == 3 and At(register="rip"),
        "a program of the guest touched the page: a mapping of a file or a device",
        weights(host_kernel=0.5, host_setup=0.5),
        "Files of a DAX window and buffers of a graphics driver are mapped into programs.",
    ),
    Sign(
        "efault-and-the-kernel-is-silent",
        _RUN,
        lambda scene: (
            scene.errno == "EFAULT" and scene.arch in {"x86", None} and not scene.event(*_KERNELS, *_BAD_MEMORY)
        ),
        "no trouble of the host's kernel is shown: what backs guest memory is the usual reason",
        weights(host_setup=1, host_kernel=-0.5),
        "Resources of the host run out more often than its kernel fails.",
    ),
    Sign(
        "einval-before-the-first-instruction",
        _RUN,
        lambda scene: (
            scene.errno == "EINVAL"
            and scene.state in {"reset", "startup"}
            and scene.arch == "x86"
            and At(register="rip")
        ),
        "KVM_RUN refused a vCPU in its reset state",
        weights(host_kernel=1.5, guest_code=-2, guest_firmware=-2),
        "arch/x86/kvm: what is checked before the first entry is KVM's own preparation.",
    ),
    Sign(
        "einval-of-a-hidden-state",
        _RUN,
        lambda scene: scene.errno in {"EINVAL", "EIO"} and _hidden_state(scene),
        "the guest's state is encrypted",
        weights(confidential_stack=1, host_kernel=1),
        "arch/x86/kvm/svm/sev.c: requests of the guest that KVM cannot accept end so.",
    ),
    Sign(
        "einval-on-power",
        _RUN,
        lambda scene: scene.errno == "EINVAL" and scene.arch in {"ppc64", "ppc"},
        "KVM on POWER refuses a machine or CPU mode that this host cannot run",
        weights(vm_configuration=2),
        "arch/powerpc/kvm: book3s_hv runs the host's own CPU and MMU mode only.",
    ),
    Sign(
        "einval-on-arm",
        _RUN,
        lambda scene: scene.errno == "EINVAL" and scene.arch == "arm64",
        "KVM on Arm refuses the vCPU's mode or the memory behind an address",
        weights(guest_code=1, host_kernel=0.5, vmm=0.5),
        "arch/arm64/kvm/arm.c: an illegal AArch32 state; mmu.c: device memory.",
    ),
    Sign(
        "enoexec-or-eperm-on-arm",
        _RUN,
        lambda scene: scene.errno in {"ENOEXEC", "EPERM"} and scene.arch == "arm64",
        "the vCPU had not been initialised or finalised",
        weights(vmm=2),
        "arch/arm64/kvm/arm.c: kvm_arch_vcpu_run_pid_change, KVM_ARM_VCPU_FINALIZE.",
    ),
    Sign(
        "eio",
        _RUN,
        lambda scene: "EIO" if scene.errno == "EIO" and scene.arch != "riscv64" else None,
        "KVM has given the whole VM up ({}): it found a bug in itself, or cannot enter a protected guest",
        weights(host_kernel=1, confidential_stack=0.5),
        "include/linux/kvm_host.h: KVM_BUG_ON; tdx.c.",
    ),
    Sign(
        "enomem",
        _RUN,
        _errno("ENOMEM"),
        "KVM could not get memory or a thread of its own ({})",
        weights(host_kernel=1, host_setup=1),
        "kvm_vm_create_worker_thread remembers a failure for good before 6.14.",
    ),
    Sign(
        "ebusy-on-power",
        _RUN,
        _errno("EBUSY"),
        "KVM needs whole cores, and their other threads are online ({})",
        weights(host_setup=3),
        "arch/powerpc/kvm/book3s_hv.c: POWER8 wants SMT off.",
    ),
    Sign(
        "eexist-or-enosys",
        _RUN,
        _errno("EEXIST", "ENOSYS", "EOPNOTSUPP"),
        "KVM_RUN failed with {}, which only code of KVM's own returns",
        weights(host_kernel=1, vmm=0.5),
        "No host resource fails so.",
    ),
    Sign(
        "poisoned-page",
        _RUN,
        _errno("EHWPOISON"),
        "the page behind the address has a memory error ({})",
        weights(host_dying=3, host_kernel=-3, host_setup=-3, vm_configuration=-3, vmm=-1, guest_code=-2),
        "mm/memory-failure.c.",
    ),
    Sign(
        "memory-gone-under-a-slot",
        _RUN,
        lambda scene: scene.event("host-memory-missing") if scene.errno == "EFAULT" else None,
        "the VMM has no mapping where it told KVM that the guest's memory is",
        weights(vmm=2, vmm_race=1, host_kernel=-1, host_setup=-0.5),
        "arch/*/kvm/mmu.c: the slot is there, and the VMM's address space has nothing behind it.",
    ),
    Sign(
        "not-set-up-on-arm",
        _RUN,
        lambda scene: "EINVAL" if scene.errno == "EINVAL" and scene.arch == "arm64" else None,
        "KVM on Arm fails with {} where the VMM has not set up the PMU or the timer, or the guest went to AArch32",
        weights(vmm=1, guest_code=0.5, host_kernel=-0.5),
        "arch/arm64/kvm/arm.c: kvm_arch_vcpu_run_pid_change, kvm_arch_vcpu_ioctl_run.",
    ),
    Sign(
        "misaligned-access-to-a-device",
        _RUN,
        lambda scene: "EIO" if scene.errno == "EIO" and scene.arch == "riscv64" else None,
        "KVM on RISC-V fails with {} where the guest touches a device at an address that is no multiple of the access's size",
        weights(guest_code=2, host_kernel=-0.5),
        "arch/riscv/kvm/vcpu_insn.c: kvm_riscv_vcpu_mmio_load and _store.",
    ),
    Sign(
        "memory-error-before",
        _RUN,
        lambda scene: scene.errno == "EFAULT" and scene.event(*_BAD_MEMORY),
        "the host's memory had an error before KVM_RUN failed",
        weights(host_dying=2),
        "mm/memory-failure.c takes the page away; an access to it then fails.",
    ),
    Sign(
        "vmm-maps-what-kvm-cannot",
        _RUN,
        lambda scene: scene.speaker if scene.speaker in {"gvisor", "nanvix", "hyperlight", "dosemu2", "km"} else None,
        "{} maps its own process's memory into the guest",
        weights(vmm=1.5),
        "Special mappings (vvar, vdso, device files) have no page that KVM can take.",
    ),
    Sign(
        "gpu-vmm",
        _RUN,
        lambda scene: scene.speaker == "libkrun" and scene.errno == "EFAULT",
        "libkrun maps the host's graphics buffers into its guests",
        weights(host_kernel=1),
        "virtio-gpu with Venus or native contexts.",
    ),
)

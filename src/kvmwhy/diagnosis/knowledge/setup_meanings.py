"""What a refusal means, as a clause: by the message that says so, or by the call and its errno."""

from __future__ import annotations

from typing import Final

from kvmwhy.record import Setup

# By call and errno: virt/kvm/kvm_main.c, arch/*/kvm; Documentation/virt/kvm/api.rst.
_BY_ERRNO: Final[dict[tuple[str, str], str]] = {
    ("KVM_CREATE_VM", "EBUSY"): (
        "another hypervisor (VirtualBox, VMware, another KVM module) holds VMX or SVM, or a TD's key is still in use"
    ),
    ("KVM_CREATE_VM", "ENOMEM"): (
        "the kernel found no memory for the VM's own structures (none in one piece, or a cgroup is full)"
    ),
    ("KVM_CREATE_VM", "EINVAL"): "the VM type is not one that this host offers, or its address width does not fit",
    ("KVM_CREATE_VM", "EOPNOTSUPP"): "this kind of VM is not supported by this host",
    ("KVM_CREATE_VM", "EMFILE"): "the process has as many open files as it may",
    ("KVM_CREATE_VCPU", "EEXIST"): "a vCPU with this number is there already",
    ("KVM_CREATE_VCPU", "EINVAL"): "the vCPU's number is beyond what KVM allows, or the VM is not ready for vCPUs",
    ("KVM_CREATE_VCPU", "ENOMEM"): "the kernel found no memory for the vCPU",
    ("KVM_SET_USER_MEMORY_REGION", "EEXIST"): "the region overlaps another memory slot",
    ("KVM_SET_USER_MEMORY_REGION2", "EEXIST"): "the region overlaps another memory slot",
    **{
        (call, errno): clause
        for call in ("KVM_SET_USER_MEMORY_REGION", "KVM_SET_USER_MEMORY_REGION2")
        for errno, clause in (
            (
                "EINVAL",
                "the region is not made of whole pages, wraps around, or changes a slot as it may not be changed",
            ),
            ("ENOMEM", "the kernel found no memory for the slot's own tables"),
            ("EFAULT", "the region lies beyond the addresses that the VM was given"),  # arm64, riscv64
        )
    },
    ("KVM_SET_MEMORY_ATTRIBUTES", "EINVAL"): "the range is not made of whole pages, or this VM has no private memory",
    ("KVM_CREATE_DEVICE", "ENODEV"): (
        "this host's KVM has no such device: its CPU or interrupt controller cannot give it"
    ),
    ("KVM_CREATE_DEVICE", "EEXIST"): "the VM has such a device already",
    ("KVM_SET_DEVICE_ATTR", "ENXIO"): "the device does not have this attribute on this host",
    ("KVM_SET_DEVICE_ATTR", "EBUSY"): "it may not be changed any more: it was set before, or a vCPU has run",
    ("KVM_SET_ONE_REG", "EINVAL"): "the register may not have this value on this host",
    ("KVM_SET_ONE_REG", "EPERM"): "the register may not be changed, or not any more",
    ("KVM_ARM_VCPU_INIT", "ENOENT"): "a feature of vCPUs was asked for that this kernel does not know",
    ("KVM_ARM_VCPU_INIT", "EINVAL"): (
        "another CPU was asked for than the host's, or a feature that this host cannot give"
    ),
    ("KVM_IRQFD", "EBADF"): "the descriptor is no event's, or was closed",
    ("KVM_IOEVENTFD", "EEXIST"): "an event is registered for this address already",
    ("KVM_IOEVENTFD", "ENOSPC"): "as many events are registered as KVM takes",
    ("KVM_SET_XSAVE", "EINVAL"): "the state has a part that the vCPU, or this CPU, has not",
    ("KVM_SET_LAPIC", "EINVAL"): "the state does not fit the mode and number of the vCPU's APIC",
    ("KVM_SET_VCPU_EVENTS", "EINVAL"): "the events cannot be pending together, or not on this CPU",
    ("KVM_SET_CPUID2", "E2BIG"): "the CPUID table has more entries than KVM takes (80, in newer kernels 256)",
    ("KVM_GET_SUPPORTED_CPUID", "E2BIG"): "the buffer for the CPUID table is too small",
    ("KVM_CREATE_IRQCHIP", "EEXIST"): "the VM has an interrupt controller already",
    ("KVM_ENABLE_CAP", "EINVAL"): "KVM does not have this capability, or not with these arguments",
    ("KVM_SET_SREGS", "EINVAL"): "the values do not fit each other, this CPU, or the CPUID that the vCPU was given",
    ("registers", "EINVAL"): "the values do not fit each other, this CPU, or what the vCPU was given of it",
    ("KVM_GET_ONE_REG", "ENOENT"): "this KVM, or the vCPU with the features it was given, has no such register",
    ("KVM_SET_ONE_REG", "ENOENT"): "this KVM, or the vCPU with the features it was given, has no such register",
    ("KVM_SET_XCRS", "EINVAL"): "XCR0 has a bit that the vCPU's CPUID, or this CPU, has not",
    ("KVM_SET_CPUID2", "EINVAL"): "the table would change under a vCPU that has run, or does not fit its state",
    ("KVM_SET_NESTED_STATE", "EINVAL"): "the state does not fit what this host's VMX or SVM offers",
    ("KVM_SET_TSS_ADDR", "EEXIST"): "the address overlaps a memory slot",
    ("open", "ENOENT"): (
        "the device is not there, because the module is not loaded, or virtualization is switched off or not "
        "offered to this machine"
    ),
    ("open", "EACCES"): "this user may not (on most distributions the group kvm may)",
    ("open", "EPERM"): "a container's device rules or a security module forbid it",
    ("open", "ENODEV"): "the device is there, but no module stands behind it, or a container gave it another number",
    ("module", "EOPNOTSUPP"): (
        "the CPU has no virtualization, it is switched off in the firmware, or an outer hypervisor hides it"
    ),
    ("module", "EBUSY"): "another module of KVM's is loaded, or another hypervisor is active",
    ("KVM_TDX_INIT_MEM_REGION", "EAGAIN"): "the TDX module was busy, and the VMM did not ask again",
    ("KVM_TDX_INIT_MEM_REGION", "EBUSY"): "the TDX module was busy, and the VMM did not ask again",
}
# virt/kvm/kvm_main.c: mm_take_all_locks for KVM_CREATE_VM, mutex_lock_killable for each call of a vCPU.
_INTERRUPTED: Final = "a signal came while the kernel was at it, and the VMM did not ask again"
# Calls of a vCPU: virt/kvm/kvm_main.c, kvm_vcpu_ioctl has EIO for a VM that is dead (since 5.15), and none has it else.
_STATE: Final = ("registers", "get-registers", "vcpu-init")
_STATE_PARTS: Final = (
    *("REGS", "SREGS", "SREGS2", "FPU", "XSAVE", "XSAVE2", "XCRS", "VCPU_EVENTS", "LAPIC", "MP_STATE", "DEBUGREGS"),
    *("NESTED_STATE", "ONE_REG", "CPUID2"),
)
OF_A_VCPUS_STATE: Final = frozenset(
    {*_STATE, *(f"KVM_{verb}_{part}" for verb in ("GET", "SET") for part in _STATE_PARTS)}
)
_NOT_BY_KVM: Final = (
    "KVM itself never answers so, but a security module (SELinux, AppArmor) or a container's seccomp does"
)
DEAD: Final = "the VM is dead: KVM found a bug of its own, and has refused every call since"
_BY_CALL: Final[dict[str, str]] = {  # do_set_msr and do_get_msr fail with a count, not with an errno
    "KVM_SET_MSRS": "this KVM does not know the register, or does not take the value",
    "KVM_GET_MSRS": "this KVM does not know the register",
}
_BY_DETAIL: Final[dict[str, str]] = {
    "disabled-by-bios": (
        "virtualization is switched off in the firmware's set-up (VT-x, SVM), or an outer hypervisor shows it as locked"
    ),
    "no-hardware": ("the kernel sees no VMX or SVM (a CPU without it, or a VM to which none is given)"),
    "not-offered-by-cpu": (
        "the CPU, or the VM that this host is, does not offer what KVM needs of it (the virtualization extension is"
        " missing, or not given to this machine)"
    ),
    "disabled-by-parameter": "the kernel was told on its command line to do without KVM (kvm-arm.mode=none)",
    "mode-not-possible": (
        "the kernel's command line asks for a mode of KVM that this machine cannot offer (kvm-arm.mode=nested needs a"
        " GICv3, kvm-arm.mode=protected needs PSCI)"
    ),
    "init-failed": "virtualization is there, and KVM failed to set itself up (no memory, or a CPU's erratum)",
    "firmware-too-old": "the SBI firmware of this machine is older than KVM needs (v0.2 with RFENCE)",
    "enable-failed": (
        "virtualization failed on a CPU (another hypervisor is active there, or an outer one refuses VMXON)"
    ),
    "other-module": "kvm_intel and kvm_amd cannot be loaded together",
    "domain-requires-kvm": (
        "no QEMU was found here that can use KVM for it (no /dev/kvm, no right to it, or a machine type or architecture"
        " that this QEMU does not have)"
    ),
    "no-hyp-mode": "the kernel was started at EL1, so another program has EL2: firmware or a hypervisor below",
    "evmcs": (
        "the VM is given hv-evmcs, and this KVM has no enlightened VMCS to offer (nested VMX is off: kvm_intel's"
        " nested)"
    ),
    "cpu-extension": "an extension is asked for, or to be left out, which this KVM does not let the VMM choose",
    "vm-type": (
        "this host's KVM does not offer this type of VM (a kernel without it, a module parameter that is off, or a"
        " BIOS setting)"
    ),
    "snp-cpuid": "the firmware found that the guest's table of CPUID does not fit this CPU",
    "object-unknown": (
        "this QEMU does not know the guest's kind of protection: it is too old for it, or built without its patches"
    ),
    "inconsistent-cpus": "the CPUs of this host do not offer the same abilities of VMX",
    "pgste": "QEMU has no PGSTE segment and vm.allocate_pgste is 0",
    "version-too-old": "the kernel's KVM is older than what this VMM needs",
    "irq-routing": "the VMM asked for more interrupt routes than KVM has, or for one that is invalid",
    "too-many-vcpus": "more vCPUs are asked for than this KVM allows",
    "missing-capability": "the VMM needs a capability that this host's KVM does not have",
    "secure-world": "KVM cannot run a CPU with EL3, so leave the secure world out of the machine (secure=off)",
    "split-irqchip": "this host's KVM has no interrupt controller that is split between it and the VMM",
    "dirty-ring": "the ring of dirty pages is of a size that KVM does not take, or KVM has none",
    "hyperv": "this KVM does not offer that feature of Hyper-V to guests, or not without another one",
    "mce": "the machine checks that the VMM wants to give the guest do not fit what KVM offers",
    "tsc-frequency": "the guest's TSC cannot have that frequency here (no TSC scaling, or a value out of range)",
    "amx": "the kernel does not permit the guest that part of the CPU's state, or the CPU has it not",
    "interrupt": "the interrupt is lost, and the VM goes on",
    "tdx-options": "TDX, or this host's, does not allow what the VM's options ask for",
    "sev-options": "SEV, or this host's, does not allow what the VM's options ask for",
    "sev-not-enabled": "SEV is off on this host (its BIOS, kvm_amd's parameters, or a kernel without it)",
    "sev-firmware-image": "the guest's firmware image lacks the tables that SEV needs: it is not one built for SEV",
    "xen-emulation": "this KVM cannot show itself to guests as Xen, or not with this machine",
    "accelerator-not-built": "this QEMU was built without KVM, or for another architecture than the host's",
    "cpu-model-needs-kvm": "-cpu host needs KVM, which could not be used",
}


def slugs_of(setup: Setup) -> tuple[str, ...]:
    """What the message was, and those behind it, by slugs."""
    return (setup.detail or "", *str(setup.fields.get("followed_by", "")).split())


def is_dead(setup: Setup, errno: str | None) -> bool:
    """KVM has given the VM up before this call was made."""
    return errno == "EIO" and setup.call in OF_A_VCPUS_STATE


def by_a_security_module(setup: Setup, errno: str | None) -> bool:
    """EACCES, which nothing under virt/kvm and arch/*/kvm returns to a VMM but the ITS for its tables."""
    return errno == "EACCES" and setup.call.startswith("KVM_") and setup.call != "KVM_SET_DEVICE_ATTR"


def meaning_of(setup: Setup, errno: str | None) -> str | None:
    """A message that says why is more exact than an errno with several reasons."""
    by_errno = _BY_ERRNO.get((setup.call, errno or ""))
    by_call = _BY_CALL.get(setup.call) if setup.msr is not None else None
    if errno == "EINTR":
        return _INTERRUPTED
    if is_dead(setup, errno):
        return DEAD
    if by_a_security_module(setup, errno):
        return _NOT_BY_KVM
    return next((_BY_DETAIL[slug] for slug in slugs_of(setup) if slug in _BY_DETAIL), by_errno or by_call)

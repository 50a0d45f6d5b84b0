"""A refused set-up in words: what the MSR is, what the firmware's code means, which rule the registers break."""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.x86.msr import describe_msr
from kvmwhy.abi.x86.sev import describe_code
from kvmwhy.abi.x86.tdx import describe_status
from kvmwhy.arch.x86.sregs_check import bits_by_feature, check_sregs
from kvmwhy.record import Failure, Setup

_PAGE: Final = 4096
_MOST_PAGES: Final = (1 << 31) - 1  # KVM_MEM_MAX_NR_PAGES, virt/kvm/kvm_main.c

# By call and errno: virt/kvm/kvm_main.c, arch/*/kvm; Documentation/virt/kvm/api.rst.
_MEANINGS: Final[dict[tuple[str, str], str]] = {
    ("KVM_CREATE_VM", "EBUSY"): (
        "another hypervisor (VirtualBox, VMware, another KVM module) holds VMX or SVM, or a TD's key is still in use"
    ),
    ("KVM_CREATE_VM", "ENOMEM"): (
        "the kernel found no memory for the VM's own structures: free memory is there, but not in one "
        "piece, or a cgroup is full"
    ),
    ("KVM_CREATE_VM", "EINVAL"): "the VM type is not one that this host offers, or its address width does not fit",
    ("KVM_CREATE_VM", "EOPNOTSUPP"): "this kind of VM is not supported by this host",
    ("KVM_CREATE_VM", "EMFILE"): "the process has as many open files as it may",
    ("KVM_CREATE_VCPU", "EEXIST"): "a vCPU with this number is there already",
    ("KVM_CREATE_VCPU", "EINVAL"): "the vCPU's number is beyond what KVM allows, or the VM is not ready for vCPUs",
    ("KVM_CREATE_VCPU", "ENOMEM"): "the kernel found no memory for the vCPU",
    ("KVM_SET_USER_MEMORY_REGION", "EEXIST"): "the region overlaps another memory slot",
    ("KVM_SET_USER_MEMORY_REGION2", "EEXIST"): "the region overlaps another memory slot",
    ("KVM_SET_CPUID2", "E2BIG"): "the CPUID table has more entries than KVM takes (80, in newer kernels 256)",
    ("KVM_GET_SUPPORTED_CPUID", "E2BIG"): "the buffer for the CPUID table is too small",
    ("KVM_CREATE_IRQCHIP", "EEXIST"): "the VM has an interrupt controller already",
    ("KVM_ENABLE_CAP", "EINVAL"): "KVM does not have this capability, or not with these arguments",
    ("KVM_SET_TSS_ADDR", "EEXIST"): "the address overlaps a memory slot",
    ("open", "ENOENT"): (
        "there is no /dev/kvm: the module is not loaded, or virtualization is switched off or not "
        "offered to this machine"
    ),
    ("open", "EACCES"): "this user may not open /dev/kvm: the group kvm has it on most distributions",
    ("open", "EPERM"): "a container's device rules or a security module forbid /dev/kvm",
    ("open", "ENODEV"): "/dev/kvm is there, but no module stands behind it, or a container gave it another number",
    ("module", "EOPNOTSUPP"): (
        "the CPU has no virtualization, it is switched off in the firmware, or an outer hypervisor hides it"
    ),
    ("module", "EBUSY"): "another module of KVM's is loaded, or another hypervisor is active",
}
_DETAILS: Final[dict[str, str]] = {
    "disabled-by-bios": (
        "virtualization is switched off in the firmware's set-up (VT-x, SVM), or an outer hypervisor shows it as locked"
    ),
    "no-hardware": (
        "the kernel sees no VMX or SVM: a CPU without it, or a VM to which none is given (nested virtualization is off)"
    ),
    "enable-failed": (
        "switching virtualization on failed on a CPU: another hypervisor is active there, or an outer one refuses VMXON"
    ),
    "other-module": "kvm_intel and kvm_amd cannot be loaded together",
    "no-hyp-mode": "the kernel was started at EL1, so another program has EL2: firmware or a hypervisor below",
    "vm-type": (
        "this host's KVM does not offer this type of VM: a kernel without it, a module parameter that is"
        " off, or a BIOS setting"
    ),
    "pgste": "QEMU has no PGSTE segment and vm.allocate_pgste is 0",
    "version-too-old": "the kernel's KVM is older than what this VMM needs",
    "irq-routing": "the VMM asked for more interrupt routes than KVM has, or for one that is invalid",
    "too-many-vcpus": "more vCPUs are asked for than this KVM allows",
    "missing-capability": "the VMM needs a capability that this host's KVM does not have",
    "secure-world": "KVM cannot run a CPU with EL3: leave the secure world out of the machine (secure=off)",
    "accelerator-not-built": "this QEMU was built without KVM, or for another architecture than the host's",
    "cpu-model-needs-kvm": "-cpu host needs KVM, which could not be used",
}


def set_up(failure: Failure) -> tuple[str, ...]:
    """What was refused and why, as far as the numbers tell."""
    setup = failure.setup
    if setup is None:
        return ()
    told = [*_msr(setup), *_firmware(setup), *_memory(setup, failure.errno), *_registers(failure)]
    meaning = _MEANINGS.get((setup.call, failure.errno or "")) or _DETAILS.get(setup.detail or "")
    return (*told, *((meaning,) if meaning else ()))


def _msr(setup: Setup) -> list[str]:
    if setup.msr is None:
        return []
    msr = describe_msr(setup.msr)
    if msr is None:
        return [f"MSR {setup.msr:#x} is none that KVM or its VMMs are known to use"]
    value = f", to which {setup.value:#x} was to be written" if setup.value is not None else ""
    told = [f"MSR {setup.msr:#x} is {msr.name}: {msr.what}{value}", f"it is offered by {msr.offered_by}"]
    if msr.features:
        hidden = " or ".join(f"-{feature}" for feature in msr.features)
        told.append(f"a guest without its feature has none of it: add {hidden} to the CPU model (-cpu host,-feature)")
    if "msrs" in setup.fields:
        told.append(f"these were refused: {setup.fields['msrs']}")
    return told


def _firmware(setup: Setup) -> list[str]:
    told = []
    if setup.firmware_error:
        told.append(f"the SEV firmware's code {setup.firmware_error:#x} is {describe_code(setup.firmware_error)}")
    elif setup.firmware_error == 0:
        told.append("the SEV firmware's code is 0: KVM refused the request itself, the firmware did not")
    if setup.status is not None:
        told.append(f"the status {setup.status:#x} is {describe_status(setup.status)}")
    return told


def _memory(setup: Setup, errno: str | None) -> list[str]:
    start, size = setup.fields.get("start"), setup.fields.get("size")
    if "MEMORY_REGION" not in setup.call or not isinstance(start, int) or not isinstance(size, int):
        return []
    told = []
    if (start | size) & (_PAGE - 1):
        told.append("start or size is no multiple of a page")
    if size >> 12 > _MOST_PAGES:
        told.append(f"a slot holds at most {_MOST_PAGES} pages, just under 8 TiB; this one has {size >> 12}")
    if start + size > 1 << 52:
        told.append("the region ends above the highest physical address that a CPU can have")
    if not told and errno == "EINVAL":
        told.append("alignment and size are in order: the slot's number, its flags, or its memory in the VMM is not")
    return told


def _registers(failure: Failure) -> list[str]:
    if failure.cpu is None:
        return []
    violations = check_sregs(failure.cpu)
    if violations:
        return [f"KVM_SET_SREGS refuses these registers: {violation.text}" for violation in violations]
    bits = bits_by_feature(failure.cpu)
    if not bits:
        return []
    shown = ", ".join(f"{register.upper()}.{bit} ({feature})" for register, bit, feature in bits)
    return [
        f"the registers break no rule by themselves; each of these bits needs a feature in the guest's CPUID: {shown}"
    ]

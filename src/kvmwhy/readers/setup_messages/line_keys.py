"""The words that lead to a line in which a refused set-up may be told in words of its own, in lower case.

A line that has none of them is not looked at; what one that has some says is asked of ``calls``. What an input must
hold for this reader to be asked at all is declared apart from them, in ``readers.anchors``: the fewer, the faster
every other input is read.
"""

from __future__ import annotations

from typing import Final

_KVM: Final = (
    "kvm error", "kvm ioctl", "kvm backend", "kvm hypervisor", "kvm vcpu", "kvm failed", "kvm init", "init kvm",
    "start kvm", "kvm setup", "setup kvm", "set up kvm", "kvm platform", "kvm state", "using kvm", "/dev/kvm",
    "kvm object", "kvm: create", "kvm device", "open kvm", "access kvm", "opening kvm", "use kvm", "kvm memory",
    "kvm(error", "kvmnew", "newkvm", "createkvm", "openkvm", "initkvm", "kvminit", "kvmfd", "hypervisor",
)  # fmt: skip
_IOCTLS: Final = (
    "kvm_create_", "kvm_set_", "kvm_get_", "kvm_enable_cap", "kvm_check_extension", "kvm_arm_", "kvm_memory_encrypt",
    "kvm_init_", "kvm_sev_", "kvm_tdx_", "kvm_cap_", "kvm_irq", "kvm_ioeventfd", "kvm_ppc_", "kvm_s390_",
    "kvm_riscv_", "kvm_xen_", "kvm_reg", "kvm_assign_", "kvm_device_", "kvm_pre_fault", "kvm_clear_dirty",
    "kvm_reset_dirty", "kvm_signal_msi", "ioctl (create_", "ioctl (set_", "ioctl(create_", "ioctl(set_",
    "ioctl (enable_", "ioctl(enable_",
)  # fmt: skip
_OBJECTS: Final = (
    "vcpu", "reate vm", "reate a vm", "reating vm", "creating a vm", "the vm", "new vm", "kvm vm", "vmfd", "createvm",
    "vmcreate", "create_vm", "vm creation", "ucontrol vm", "vmsetup(", "vm fd", "vm file desc", "vm propert",
    "initialize vm", "setup vm", "virtual machine", "microvm", "cpuid", "supported cpus", "supportedcpus",
    "processor features", "msr", "modelspecific", "sregs", "segmentreg", "statusreg", "specialreg", "standardreg",
    "basereg", "registers", "core reg", "corereg", "system reg", "register", "one reg", "onereg", "_regs",
    "vcpusetregs", "fpu", "floating", "lapic", "localint", "local inter", "xcr", "xsave", "extended state",
    "control reg", "mpstate", "mp state", "mp_state", "multiprocessor", "nested", "debugreg", "debug reg", "tsc",
    "tss", "identity map", "identitymap", "irqchip", "irq chip", "irq_chip", "ioapic", "interrupt controller", "gic",
    "aia", "pit2", "setpit", "vmsetpit", "i8254", "irqfd", "irqevent", "interrupt event", "ioevent", "io event",
    "gsi", "irq rout", "interrupt rout", "memory region", "memoryregion", "memory slot", "memslot", "guest memory",
    "user memory", "usermemory", "userspace memory", "addmemory", "register_mem", "kvm_set_mem", "memory attributes",
    "memoryattributes", "guest_memfd", "guestmemfd", "device attr", "deviceattr", "capabilit", "enablecap",
    "split irq", "splitirq", "x2apic", "exists due", "exits due", "preferred target", "synic", "pmu", "tdx", "sev-",
    "sev_", "amx", "api version", "extensions",
)  # fmt: skip

LINE_KEYS: Final = tuple(dict.fromkeys((*_KVM, *_IOCTLS, *_OBJECTS)))

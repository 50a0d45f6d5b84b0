"""The ioctls of /dev/kvm, those of every architecture and those of x86, and the structures that they pass.

Numbers are built by the rules of <asm-generic/ioctl.h> from direction, number and size; a structure
is written once and its size and offsets follow (see ``layout``). A C program checks all of it
against ``<linux/kvm.h>``.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from kvmwhy.abi.cstruct import Field, lay_out

KVMIO: Final = 0xAE
API_VERSION: Final = 12  # since 2.6.22; anything else is not this ABI


class Structure(NamedTuple):
    """``struct kvm_…``: its fields one by one, and all of it at once.

    ``whole`` packs one value per field, arrays of numbers element by element, u8 arrays as bytes.
    Fields called ``pad…`` are no fields: they only take room.
    """

    name: str
    fields: tuple[Field, ...]
    size: int  # sizeof, in bytes
    whole: struct.Struct


def structure(name: str, text: str) -> Structure:
    *fields, end = lay_out(f"{text} end:u8", 0)
    alignment = max(field.size for field in fields)
    size = (end.offset + alignment - 1) // alignment * alignment
    code, offset = "<", 0
    for field in fields:
        letter = field.code.format[-1]
        count = f"{field.length}s" if field.size == 1 and field.length > 1 else f"{field.length}{letter}"
        code += f"{field.offset - offset}x{count}"
        offset = field.offset + field.size * field.length
    return Structure(name, tuple(fields), size, struct.Struct(f"{code}{size - offset}x"))


_SEGMENT = (
    "base:u64 limit:u32 selector:u16 type:u8 present:u8 dpl:u8 db:u8 s:u8 l:u8 g:u8 avl:u8 unusable:u8 padding:u8"
)
SEGMENTS: Final = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")  # in the order of kvm_sregs
TABLES: Final = ("gdt", "idt")


def _prefixed(prefix: str, text: str) -> str:
    return " ".join(f"{prefix}.{item}" for item in text.split())


REGS: Final = structure(
    "kvm_regs",
    "rax:u64 rbx:u64 rcx:u64 rdx:u64 rsi:u64 rdi:u64 rsp:u64 rbp:u64"
    " r8:u64 r9:u64 r10:u64 r11:u64 r12:u64 r13:u64 r14:u64 r15:u64 rip:u64 rflags:u64",
)
SEGMENT: Final = structure("kvm_segment", _SEGMENT)
DTABLE: Final = structure("kvm_dtable", "base:u64 limit:u16 padding:u16[3]")
SREGS: Final = structure(
    "kvm_sregs",
    " ".join(_prefixed(name, _SEGMENT) for name in SEGMENTS)
    + " "
    + " ".join(_prefixed(name, "base:u64 limit:u16 padding:u16[3]") for name in TABLES)
    + " cr0:u64 cr2:u64 cr3:u64 cr4:u64 cr8:u64 efer:u64 apic_base:u64 interrupt_bitmap:u64[4]",
)
USERSPACE_MEMORY_REGION: Final = structure(
    "kvm_userspace_memory_region",
    "slot:u32 flags:u32 guest_phys_addr:u64 memory_size:u64 userspace_addr:u64",
)
ENABLE_CAP: Final = structure("kvm_enable_cap", "cap:u32 flags:u32 args:u64[4] pad:u8[64]")
DEBUGREGS: Final = structure("kvm_debugregs", "db:u64[4] dr6:u64 dr7:u64 flags:u64 reserved:u64[9]")
VCPU_EVENTS: Final = structure(
    "kvm_vcpu_events",
    "exception.injected:u8 exception.nr:u8 exception.has_error_code:u8 exception.pending:u8 exception.error_code:u32"
    " interrupt.injected:u8 interrupt.nr:u8 interrupt.soft:u8 interrupt.shadow:u8"
    " nmi.injected:u8 nmi.pending:u8 nmi.masked:u8 nmi.pad:u8 sipi_vector:u32 flags:u32"
    " smi.smm:u8 smi.pending:u8 smi.smm_inside_nmi:u8 smi.latched_init:u8 triple_fault.pending:u8"
    " reserved:u8[26] exception_has_payload:u8 exception_payload:u64",
)
# Headers of tables: so many entries follow (an array without a length, in C).
MSRS: Final = structure("kvm_msrs", "nmsrs:u32 pad:u32")
MSR_ENTRY: Final = structure("kvm_msr_entry", "index:u32 reserved:u32 data:u64")
MSR_LIST: Final = structure("kvm_msr_list", "nmsrs:u32")
CPUID2: Final = structure("kvm_cpuid2", "nent:u32 pad:u32")
CPUID_ENTRY2: Final = structure(
    "kvm_cpuid_entry2",
    "function:u32 index:u32 flags:u32 eax:u32 ebx:u32 ecx:u32 edx:u32 padding:u32[3]",
)
SIGNAL_MASK: Final = structure("kvm_signal_mask", "len:u32")
XCR: Final = structure("kvm_xcr", "xcr:u32 reserved:u32 value:u64")
MAX_XCRS: Final = 16
XCRS: Final = structure(
    "kvm_xcrs",
    "nr_xcrs:u32 flags:u32 "
    + " ".join(_prefixed(f"xcrs[{n}]", "xcr:u32 reserved:u32 value:u64") for n in range(16))
    + " padding:u64[16]",
)
MP_STATE: Final = structure("kvm_mp_state", "mp_state:u32")
INTERRUPT: Final = structure("kvm_interrupt", "irq:u32")
TRANSLATION: Final = structure(
    "kvm_translation",
    "linear_address:u64 physical_address:u64 valid:u8 writeable:u8 usermode:u8 pad:u8[5]",
)
GUEST_DEBUG: Final = structure("kvm_guest_debug", "control:u32 pad:u32 arch.debugreg:u64[8]")
ONE_REG: Final = structure("kvm_one_reg", "id:u64 addr:u64")  # not on x86 before 6.19
CREATE_DEVICE: Final = structure("kvm_create_device", "type:u32 fd:u32 flags:u32")
# Passed as bytes: their contents are the CPU's, not KVM's.
FPU: Final = structure("kvm_fpu", "fpr:u8[128] rest:u32[72]")
XSAVE: Final = structure("kvm_xsave", "region:u32[1024]")

STRUCTURES: Final = (
    REGS,
    SEGMENT,
    DTABLE,
    SREGS,
    USERSPACE_MEMORY_REGION,
    ENABLE_CAP,
    DEBUGREGS,
    VCPU_EVENTS,
    MSRS,
    MSR_ENTRY,
    MSR_LIST,
    CPUID2,
    CPUID_ENTRY2,
    SIGNAL_MASK,
    XCR,
    XCRS,
    MP_STATE,
    INTERRUPT,
    TRANSLATION,
    GUEST_DEBUG,
    ONE_REG,
    CREATE_DEVICE,
    FPU,
    XSAVE,
)

MEM_LOG_DIRTY_PAGES: Final = 1 << 0
MEM_READONLY: Final = 1 << 1
CREATE_DEVICE_TEST: Final = 1  # only ask
CPUID_FLAG_SIGNIFICANT_INDEX: Final = 1 << 0
VCPUEVENT_VALID: Final = {0: "NMI_PENDING", 1: "SIPI_VECTOR", 2: "SHADOW", 3: "SMM", 4: "PAYLOAD", 5: "TRIPLE_FAULT"}


def _ioc(direction: int, nr: int, size: int) -> int:
    """_IOC of <asm-generic/ioctl.h>: direction 31:30, size 29:16, type 15:8, number 7:0."""
    return direction << 30 | size << 16 | KVMIO << 8 | nr


def io(nr: int) -> int:
    return _ioc(0, nr, 0)


def iow(nr: int, structure: Structure) -> int:
    return _ioc(1, nr, structure.size)


def ior(nr: int, structure: Structure) -> int:
    return _ioc(2, nr, structure.size)


def iowr(nr: int, structure: Structure) -> int:
    return _ioc(3, nr, structure.size)


class Ioctl(IntEnum):
    """Requests by name, so that an error can say which one failed."""

    # /dev/kvm
    KVM_GET_API_VERSION = io(0x00)
    KVM_CREATE_VM = io(0x01)
    KVM_GET_MSR_INDEX_LIST = iowr(0x02, MSR_LIST)
    KVM_CHECK_EXTENSION = io(0x03)
    KVM_GET_VCPU_MMAP_SIZE = io(0x04)
    KVM_GET_SUPPORTED_CPUID = iowr(0x05, CPUID2)
    # a VM
    KVM_CREATE_VCPU = io(0x41)
    KVM_SET_USER_MEMORY_REGION = iow(0x46, USERSPACE_MEMORY_REGION)
    KVM_SET_TSS_ADDR = io(0x47)
    KVM_ENABLE_CAP = iow(0xA3, ENABLE_CAP)  # of a vCPU, too
    # a vCPU
    KVM_RUN = io(0x80)
    KVM_GET_REGS = ior(0x81, REGS)
    KVM_SET_REGS = iow(0x82, REGS)
    KVM_GET_SREGS = ior(0x83, SREGS)
    KVM_SET_SREGS = iow(0x84, SREGS)
    KVM_TRANSLATE = iowr(0x85, TRANSLATION)
    KVM_INTERRUPT = iow(0x86, INTERRUPT)
    KVM_GET_MSRS = iowr(0x88, MSRS)
    KVM_SET_MSRS = iow(0x89, MSRS)
    KVM_SET_SIGNAL_MASK = iow(0x8B, SIGNAL_MASK)
    KVM_GET_FPU = ior(0x8C, FPU)
    KVM_SET_FPU = iow(0x8D, FPU)
    KVM_SET_CPUID2 = iow(0x90, CPUID2)
    KVM_GET_CPUID2 = iowr(0x91, CPUID2)
    KVM_GET_MP_STATE = ior(0x98, MP_STATE)
    KVM_SET_MP_STATE = iow(0x99, MP_STATE)
    KVM_NMI = io(0x9A)
    KVM_SET_GUEST_DEBUG = iow(0x9B, GUEST_DEBUG)
    KVM_GET_VCPU_EVENTS = ior(0x9F, VCPU_EVENTS)
    KVM_SET_VCPU_EVENTS = iow(0xA0, VCPU_EVENTS)
    KVM_GET_DEBUGREGS = ior(0xA1, DEBUGREGS)
    KVM_SET_DEBUGREGS = iow(0xA2, DEBUGREGS)
    KVM_GET_XSAVE = ior(0xA4, XSAVE)
    KVM_SET_XSAVE = iow(0xA5, XSAVE)
    KVM_GET_XCRS = ior(0xA6, XCRS)
    KVM_SET_XCRS = iow(0xA7, XCRS)
    KVM_GET_ONE_REG = iow(0xAB, ONE_REG)
    KVM_SET_ONE_REG = iow(0xAC, ONE_REG)
    KVM_CREATE_DEVICE = iowr(0xE0, CREATE_DEVICE)  # of a VM


class CapabilityInfo(NamedTuple):
    """One KVM_CAP_*: ``scope`` says whose KVM_ENABLE_CAP takes it, ``None`` if it is only a question."""

    number: int
    scope: str | None  # "vm", "vcpu" or None
    since: str | None  # first mainline release that has it; None: any that still runs
    args: str  # what args[0] means, or what the answer means


# Documentation/virt/kvm/api.rst; numbers from <linux/kvm.h>.
CAPABILITIES: Final = {
    "KVM_CAP_USER_MEMORY": CapabilityInfo(3, None, None, "memory slots are given by the VMM"),
    "KVM_CAP_EXT_CPUID": CapabilityInfo(7, None, None, "KVM_SET_CPUID2"),
    "KVM_CAP_NR_VCPUS": CapabilityInfo(9, None, None, "recommended number of vCPUs"),
    "KVM_CAP_NR_MEMSLOTS": CapabilityInfo(10, None, None, "number of memory slots"),
    "KVM_CAP_MP_STATE": CapabilityInfo(14, None, None, "KVM_GET_MP_STATE"),
    "KVM_CAP_INTERNAL_ERROR_DATA": CapabilityInfo(40, None, None, "internal.data[] is filled in"),
    "KVM_CAP_VCPU_EVENTS": CapabilityInfo(41, None, None, "KVM_GET_VCPU_EVENTS"),
    "KVM_CAP_DEBUGREGS": CapabilityInfo(50, None, None, "KVM_GET_DEBUGREGS"),
    "KVM_CAP_XSAVE": CapabilityInfo(55, None, None, "KVM_GET_XSAVE"),
    "KVM_CAP_XCRS": CapabilityInfo(56, None, None, "KVM_GET_XCRS"),
    "KVM_CAP_MAX_VCPUS": CapabilityInfo(66, None, None, "largest number of vCPUs"),
    "KVM_CAP_SYNC_REGS": CapabilityInfo(74, None, "4.17", "kvm_run.s: a mask of what KVM_RUN itself loads and stores"),
    "KVM_CAP_READONLY_MEM": CapabilityInfo(81, None, None, "KVM_MEM_READONLY"),
    "KVM_CAP_MAX_VCPU_ID": CapabilityInfo(128, None, None, "vCPU ids are below this"),
    "KVM_CAP_IMMEDIATE_EXIT": CapabilityInfo(136, None, None, "kvm_run.immediate_exit"),
    "KVM_CAP_EXCEPTION_PAYLOAD": CapabilityInfo(164, "vm", None, "args[0] = 1: CR2 and DR6 travel with the event"),
    "KVM_CAP_LAST_CPU": CapabilityInfo(184, None, "5.9", "fail_entry.cpu"),
    "KVM_CAP_SMALLER_MAXPHYADDR": CapabilityInfo(185, None, None, "guest MAXPHYADDR may be smaller"),
    "KVM_CAP_X86_USER_SPACE_MSR": CapabilityInfo(
        188, "vm", "5.10", "args[0] = mask: 1 invalid, 2 unknown, 4 filtered MSR accesses exit to the VMM"
    ),
    "KVM_CAP_X86_BUS_LOCK_EXIT": CapabilityInfo(193, "vm", "5.12", "args[0]: 1 off, 2 exit on a bus lock"),
    "KVM_CAP_EXIT_HYPERCALL": CapabilityInfo(201, "vm", "5.14", "args[0] = mask of hypercall numbers that exit"),
    "KVM_CAP_EXIT_ON_EMULATION_FAILURE": CapabilityInfo(
        204, "vm", "5.14", "args[0] = 1: every emulation failure exits, at any CPL, instead of #UD for the guest"
    ),
    "KVM_CAP_SYSTEM_EVENT_DATA": CapabilityInfo(215, None, None, "system_event.data[]"),
    "KVM_CAP_X86_TRIPLE_FAULT_EVENT": CapabilityInfo(218, "vm", "6.0", "args[0] = 1: kvm_vcpu_events.triple_fault"),
    "KVM_CAP_X86_NOTIFY_VMEXIT": CapabilityInfo(
        219, "vm", "6.0", "args[0] = window << 32 | 1 enabled | 2 tell the VMM; VMX with the feature only"
    ),
    "KVM_CAP_MEMORY_FAULT_INFO": CapabilityInfo(232, None, "6.8", "KVM_EXIT_MEMORY_FAULT comes with EFAULT"),
}

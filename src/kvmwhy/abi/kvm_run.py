"""``struct kvm_run``: the page each vCPU shares with its VMM, and the payload of every exit.

Sources: include/uapi/linux/kvm.h of 5.10, 6.1, 6.12, 7.1 and 7.3; the offsets below are the same in
all of them. On s390 two more u64 precede the union, which then starts at 48.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec import Struct

from kvmwhy.abi.cstruct import Field, Value, lay_out

RUN_SIZE: Final = 2352
PAGE_SIZE: Final = 4096
UNION: Final = 32
UNION_S390: Final = 48
UNION_SIZE: Final = 256

HEAD: Final = lay_out(
    "request_interrupt_window:u8 immediate_exit:u8 pad:u8[6] exit_reason:u32"
    " ready_for_interrupt_injection:u8 if_flag:u8 flags:u16 cr8:u64 apic_base:u64",
    0,
)
TAIL: Final = lay_out("kvm_valid_regs:u64 kvm_dirty_regs:u64", UNION + UNION_SIZE)

# kvm_run.flags on x86 (arch/x86/include/uapi/asm/kvm.h)
RUN_FLAGS: Final = {0: "SMM", 1: "BUS_LOCK", 2: "GUEST_MODE"}

EXIT_UNKNOWN: Final = 0
EXIT_EXCEPTION: Final = 1
EXIT_HYPERCALL: Final = 3
EXIT_SHUTDOWN: Final = 8
EXIT_FAIL_ENTRY: Final = 9
EXIT_INTERNAL_ERROR: Final = 17
EXIT_SYSTEM_EVENT: Final = 24
EXIT_ARM_NISV: Final = 28
EXIT_NOTIFY: Final = 37
EXIT_MEMORY_FAULT: Final = 39
EXIT_ARM_SEA: Final = 41
EXIT_ARM_LDST64B: Final = 42
# Exits of arm64 by which KVM leaves to its VMM what it cannot do; a VMM that has no case for them enters again, for
# ever (QEMU: target/arm/kvm.c, kvm_arch_handle_exit).
ARM_LEFT_TO_VMM: Final = frozenset({EXIT_ARM_NISV, EXIT_ARM_SEA, EXIT_ARM_LDST64B})
# What KVM asks of its VMM in the ordinary course of things, or a signal: on every architecture, and on one only.
ROUTINE: Final = frozenset({2, 4, 5, 6, 7, 10, 11, 12, 26, 31})
ROUTINE_OF_ONE_ARCH: Final = frozenset({13, 14, 15, 18, 19, 22, 25, 35, 36, 38})

_MMIO = "phys_addr:u64 data:u8[8] len:u32 is_write:u8"
_MSR = "error:u8 pad:u8[7] reason:u32 index:u32 data:u64"
_NISV = "esr_iss:u64 fault_ipa:u64"

# number: (name, member of the union or None, its fields)
_EXITS: Final[dict[int, tuple[str, str | None, str]]] = {
    0: ("UNKNOWN", "hw", "hardware_exit_reason:u64"),
    1: ("EXCEPTION", "ex", "exception:u32 error_code:u32"),
    2: ("IO", "io", "direction:u8 size:u8 port:u16 count:u32 data_offset:u64"),
    3: ("HYPERCALL", "hypercall", "nr:u64 args:u64[6] ret:u64 longmode:u32"),
    4: ("DEBUG", "debug.arch", "exception:u32 pad:u32 pc:u64 dr6:u64 dr7:u64"),
    5: ("HLT", None, ""),
    6: ("MMIO", "mmio", _MMIO),
    7: ("IRQ_WINDOW_OPEN", None, ""),
    8: ("SHUTDOWN", None, ""),
    9: ("FAIL_ENTRY", "fail_entry", "hardware_entry_failure_reason:u64 cpu:u32"),
    10: ("INTR", None, ""),
    11: ("SET_TPR", None, ""),
    12: ("TPR_ACCESS", "tpr_access", "rip:u64 is_write:u32 pad:u32"),
    13: ("S390_SIEIC", "s390_sieic", "icptcode:u8 ipa:u16 ipb:u32"),
    14: ("S390_RESET", "", "s390_reset_flags:u64"),
    15: ("DCR", "dcr", "dcrn:u32 data:u32 is_write:u8"),
    16: ("NMI", None, ""),
    17: ("INTERNAL_ERROR", "internal", "suberror:u32 ndata:u32 data:u64[16]"),
    18: ("OSI", "osi", "gprs:u64[32]"),
    19: ("PAPR_HCALL", "papr_hcall", "nr:u64 ret:u64 args:u64[9]"),
    20: ("S390_UCONTROL", "s390_ucontrol", "trans_exc_code:u64 pgm_code:u32"),
    21: ("WATCHDOG", None, ""),
    22: (
        "S390_TSCH",
        "s390_tsch",
        "subchannel_id:u16 subchannel_nr:u16 io_int_parm:u32 io_int_word:u32 ipb:u32 dequeued:u8",
    ),
    23: ("EPR", "epr", "epr:u32"),
    24: ("SYSTEM_EVENT", "system_event", "type:u32 ndata:u32 data:u64[16]"),
    25: ("S390_STSI", "s390_stsi", "addr:u64 ar:u8 reserved:u8 fc:u8 sel1:u8 sel2:u16"),
    26: ("IOAPIC_EOI", "eoi", "vector:u8"),
    27: ("HYPERV", "hyperv", "type:u32 pad1:u32 u:u64[6]"),
    28: ("ARM_NISV", "arm_nisv", _NISV),
    29: ("X86_RDMSR", "msr", _MSR),
    30: ("X86_WRMSR", "msr", _MSR),
    31: ("DIRTY_RING_FULL", None, ""),
    32: ("AP_RESET_HOLD", None, ""),
    33: ("X86_BUS_LOCK", None, ""),
    34: (
        "XEN",
        "xen",
        "type:u32 pad:u32 longmode:u32 cpl:u32 input:u64 result:u64 params:u64[6]",
    ),
    35: ("RISCV_SBI", "riscv_sbi", "extension_id:u64 function_id:u64 args:u64[6] ret:u64[2]"),
    36: ("RISCV_CSR", "riscv_csr", "csr_num:u64 new_value:u64 write_mask:u64 ret_value:u64"),
    37: ("NOTIFY", "notify", "flags:u32"),
    38: ("LOONGARCH_IOCSR", "iocsr_io", _MMIO),
    39: ("MEMORY_FAULT", "memory_fault", "flags:u64 gpa:u64 size:u64"),
    40: ("TDX", "tdx", "flags:u64 nr:u64 ret:u64 data:u64[5]"),
    41: ("ARM_SEA", "arm_sea", "flags:u64 esr:u64 gva:u64 gpa:u64"),
    42: ("ARM_LDST64B", "arm_nisv", _NISV),
    43: ("SNP_REQ_CERTS", "snp_req_certs", "gpa:u64 npages:u64 ret:u64"),
}

# Members of a union inside the payload, chosen by the payload's own type field.
VARIANTS: Final[dict[tuple[int, int], tuple[str, tuple[Field, ...]]]] = {
    (27, 1): ("synic", lay_out("msr:u32 pad2:u32 control:u64 evt_page:u64 msg_page:u64", 40)),
    (27, 2): ("hcall", lay_out("input:u64 result:u64 params:u64[2]", 40)),
    (27, 3): (
        "syndbg",
        lay_out("msr:u32 pad2:u32 control:u64 status:u64 send_page:u64 recv_page:u64 pending_page:u64", 40),
    ),
    (40, 0x10002): ("get_quote", lay_out("gpa:u64 size:u64", 56)),
    (40, 0x10000): ("get_tdvmcall_info", lay_out("leaf:u64 r11:u64 r12:u64 r13:u64 r14:u64", 56)),
    (40, 0x10004): ("setup_event_notify", lay_out("vector:u64", 56)),
}
_SELECTOR: Final = {27: "type", 40: "nr"}

# struct emulation_failure, the ABI part of suberror 1: an overlay of `internal`.
EMULATION_FAILURE: Final = lay_out("suberror:u32 ndata:u32 flags:u64 insn_size:u8 insn_bytes:u8[15]", UNION)


class Exit(NamedTuple):
    """One KVM_EXIT_* and where its payload lies."""

    number: int
    name: str  # without KVM_EXIT_
    member: str | None  # the union's member in C; "" if the payload has no structure of its own
    fields: tuple[Field, ...]


EXITS: Final = {n: Exit(n, name, member, lay_out(text, UNION)) for n, (name, member, text) in _EXITS.items()}
_EXITS_S390: Final = {n: Exit(e[0], e[1], e[2], lay_out(_EXITS[n][2], UNION_S390)) for n, e in EXITS.items()}


class RunPage(Struct, frozen=True):
    """What one ``kvm_run`` page says. ``payload`` is empty for exits that carry none."""

    exit_reason: int
    head: dict[str, Value]
    payload: dict[str, Value]
    raw: bytes  # the 256-byte union, so that an unknown reason loses nothing

    @property
    def name(self) -> str:
        """``KVM_EXIT_…``, or the bare number if no release up to 7.3 knows it."""
        return exit_name(self.exit_reason)


class ShortPageError(ValueError):
    """The bytes end before the union of ``kvm_run`` does."""

    def __init__(self, size: int, needed: int) -> None:
        super().__init__(f"a kvm_run page needs at least {needed} bytes, here are {size}")
        self.size = size
        self.needed = needed


# include/uapi/linux/kvm.h: KVM_SYSTEM_EVENT_*
_SYSTEM_EVENTS: Final = {
    1: "SHUTDOWN", 2: "RESET", 3: "CRASH", 4: "WAKEUP", 5: "SUSPEND", 6: "SEV_TERM", 7: "TDX_FATAL",
}  # fmt: skip
_FLAG_PRIVATE: Final = 1 << 3


def system_event_type(number: int) -> str:
    """KVM_SYSTEM_EVENT_* of a number."""
    known = _SYSTEM_EVENTS.get(number)
    return f"KVM_SYSTEM_EVENT_{known}" if known else "a type that no kernel up to 7.3 has"


def memory_fault_flags(flags: int) -> str:
    """KVM_MEMORY_EXIT_FLAG_PRIVATE is the only flag (api.rst: KVM_EXIT_MEMORY_FAULT)."""
    words = "a private access" if flags & _FLAG_PRIVATE else "not a private access"
    return f"{words}, with flags that no kernel up to 7.3 has" if flags & ~_FLAG_PRIVATE else words


def exit_name(reason: int) -> str:
    known = EXITS.get(reason)
    return f"KVM_EXIT_{known.name}" if known else f"KVM_EXIT {reason}"


def decode_page(page: bytes, *, s390: bool = False) -> RunPage:
    """Read a ``kvm_run`` page (2352 bytes, or a whole page, or anything that holds the union).

    Raises ShortPageError if the union is cut.
    """
    union = UNION_S390 if s390 else UNION
    if len(page) < union + UNION_SIZE:
        raise ShortPageError(len(page), union + UNION_SIZE)
    head = {field.name: field.read(page) for field in HEAD}
    reason = head["exit_reason"]
    assert isinstance(reason, int)  # noqa: S101 -- a u32 field, stated for the type checker
    known = (_EXITS_S390 if s390 else EXITS).get(reason)
    payload = {field.name: field.read(page) for field in known.fields} if known else {}
    selector = payload.get(_SELECTOR.get(reason, ""))
    variant = VARIANTS.get((reason, selector)) if isinstance(selector, int) and not s390 else None
    if variant:
        payload |= {f"{variant[0]}.{field.name}": field.read(page) for field in variant[1]}
    return RunPage(reason, head, payload, bytes(page[union : union + UNION_SIZE]))


def encode_page(
    exit_reason: int,
    payload: dict[str, Value] | None = None,
    *,
    head: dict[str, Value] | None = None,
    stale: bytes = b"",
    size: int = PAGE_SIZE,
) -> bytes:
    """Make a ``kvm_run`` page as the kernel would leave it.

    ``stale`` is what an earlier exit left in the union: the kernel writes its own fields and clears
    nothing else. Raises ValueError for a field that the exit does not have, or a value too wide.
    """
    if size < RUN_SIZE:
        raise ShortPageError(size, RUN_SIZE)
    page = bytearray(size)
    page[UNION : UNION + min(len(stale), UNION_SIZE)] = stale[:UNION_SIZE]
    _fill(page, HEAD, {**(head or {}), "exit_reason": exit_reason})
    if payload:
        known = EXITS.get(exit_reason)
        fields = known.fields if known else ()
        for (reason, _), (member, inner) in VARIANTS.items():
            if reason == exit_reason:
                fields += tuple(f._replace(name=f"{member}.{f.name}") for f in inner)
        _fill(page, fields, payload)
    return bytes(page)


def _fill(page: bytearray, fields: tuple[Field, ...], values: dict[str, Value]) -> None:
    by_name = {field.name: field for field in fields}
    for name, value in values.items():
        if name not in by_name:
            raise ValueError(f"no field {name!r} in this payload; it has {', '.join(by_name) or 'none'}")
        by_name[name].write(page, value)

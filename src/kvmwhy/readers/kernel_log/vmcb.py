"""``dump_vmcb`` of arch/x86/kvm/svm/svm.c, 2.6.39 to 7.3, as forms; and what they are of a failure.

What changed with time: `intercepts` was one number of 64 bits until 5.10, two of 32 since; the head line
came with 5.15, the kind of VM and the vCPU's number in it with 6.16, and with them the general registers
and the decrypted VMSA of an SEV-ES guest that allows debugging; `vmpl` with 5.19; `nested_ctl` and
`virt_ext` became `misc_ctl` and `misc_ctl2`, and `exit_code` 16 digits wide, in 7.x. `SVM: ` stood before each
line up to 6.2, `kvm_amd: ` since.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.kernel_log.format_strings import Section
from kvmwhy.record import ControlBlock, Cpu, Exit, Segment

HEAD: Final = "last attempted VMRUN on CPU"
CONTROL: Final = "VMCB Control Area"
SAVE: Final = "VMCB State Save Area"
# By one of these a line of a dump is known whose head was lost: no other program prints them.
MARKS: Final = (
    " s: ", "cr_read: ", "cr_write: ", "dr_read: ", "dr_write: ", "exceptions: ", "pause filter ", "iopm_base_pa: ",
    "msrpm_base_pa: ",
    "tlb_ctl: ", "erap_ctl: ", "int_ctl: ", "int_vector: ", "int_state: ", "exit_code: ", "exit_info1: ",
    "exit_info2: ", "exit_int_info: ",
    "exit_int_info_err: ", "nested_ctl: ", "misc_ctl: ", "misc_ctl2: ", "nested_cr3: ", "avic_", "event_inj: ",
    "event_inj_err: ",
    "virt_ext: ", "lbr_ctl: ", "next_rip: ", "vmsa_pa: ", "allowed_sev_features:", "guest_sev_features:", " efer: ",
    " cr2: ", " cr4: ",
    " dr7: ", " rflags: ", " rax: ", " rbx:  ", " rdx:  ", " rdi:  ", " r9:  ", " r11:  ", " r13:  ", " r15:  ",
    "sfmask: ", "lstar: ", "kernel_gs_base: ", "sysenter_esp: ", "gpat: ", "br_from: ", "excp_from: ",
)  # fmt: skip
SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr")
_SHORT: Final = {"gdtr": "gdt", "ldtr": "ldt", "idtr": "idt"}
_GENERAL: Final = (("rcx", "rdx"), ("rsi", "rdi"), ("r8", "r9"), ("r10", "r11"), ("r12", "r13"), ("r14", "r15"))


def _segment(name: str) -> tuple[str, str]:
    key = _SHORT.get(name, name)
    return f"{name}: s: %x a: %x l: %x b: %x", f"{key}.sel {key}.attr {key}.limit {key}.base"


def _one(label: str, name: str | None = None, value: str = "%x") -> tuple[str, str]:
    return f"{label}: {value}", name or label


def _two(first: str, second: str, names: str | None = None) -> tuple[str, str]:
    return f"{first}: %x {second}: %x", names or f"{first} {second}"


SECTIONS: Final = (
    Section(
        CONTROL,
        (
            _one("cr_read", "intercept_cr_read"),
            _one("cr_write", "intercept_cr_write"),
            _one("dr_read", "intercept_dr_read"),
            _one("dr_write", "intercept_dr_write"),
            _one("exceptions", "intercept_exceptions"),
            ("intercepts: %x %x", "intercept_word3 intercept_word4"),
            _one("intercepts", "intercepts"),
            _one("pause filter count", "pause_filter_count", "%d"),
            _one("pause filter threshold", "pause_filter_threshold", "%d"),
            _one("iopm_base_pa"),
            _one("msrpm_base_pa"),
            _one("tsc_offset"),
            _one("asid", value="%d"),
            _one("tlb_ctl", value="%d"),
            _one("erap_ctl", value="%d"),
            _one("int_ctl"),
            _one("int_vector"),
            _one("int_state"),
            _one("exit_code"),
            _one("exit_info1"),
            _one("exit_info2"),
            _one("exit_int_info"),
            _one("exit_int_info_err"),
            _one("nested_ctl", value="%d"),
            _one("misc_ctl", "nested_ctl", "%d"),
            _one("nested_cr3"),
            _one("avic_vapic_bar"),
            _one("ghcb"),
            _one("event_inj"),
            _one("event_inj_err"),
            _one("virt_ext", value="%d"),
            _one("lbr_ctl", "virt_ext", "%d"),
            _one("misc_ctl2", "virt_ext", "%d"),
            _one("next_rip"),
            _one("avic_backing_page"),
            _one("avic_logical_id"),
            _one("avic_physical_id"),
            _one("vmsa_pa"),
            _one("allowed_sev_features"),
            _one("guest_sev_features"),
        ),
    ),
    Section(
        SAVE,
        (
            *map(_segment, SEGMENTS),
            ("vmpl: %d cpl: %d efer: %x", "vmpl cpl save_efer"),
            ("cpl: %d efer: %x", "cpl save_efer"),
            _two("cr0", "cr2"),
            _two("cr3", "cr4"),
            _two("dr6", "dr7"),
            _two("rip", "rflags"),
            _two("rsp", "rax"),
            _two("rax", "rbx"),
            *(_two(*pair) for pair in _GENERAL),
            _two("rbp", "rsp"),
            _two("s_cet", "ssp"),
            _one("isst_addr"),
            _two("star", "lstar"),
            _two("cstar", "sfmask"),
            _two("kernel_gs_base", "sysenter_cs"),
            _two("sysenter_esp", "sysenter_eip"),
            _two("gpat", "dbgctl"),
            _two("br_from", "br_to"),
            _two("excp_from", "excp_to"),
            ("sev_features %x", "sev_features"),
            _two("xcr0", "xss"),
        ),
    ),
)

LAST: Final = "br_from"
_PARTS: Final = {"": "", "sel": "_selector", "base": "_base", "limit": "_limit", "attr": "_attrib"}
_EFER_SVME: Final = 1 << 12
_REGISTERS: Final = frozenset(
    (
        *("cr0", "cr2", "cr3", "cr4", "dr6", "dr7", "rip", "rflags", "rsp", "rax", "rbx", "rbp"),
        *(name for pair in _GENERAL for name in pair),
    )
)


def cpu_of(values: dict[str, int]) -> Cpu:
    """What the guest sees: EFER without the SVME bit, which KVM sets for itself and VMRUN wants."""
    registers = {name: value for name, value in values.items() if name in _REGISTERS}
    if "save_efer" in values:
        registers["efer"] = values["save_efer"] & ~_EFER_SVME
    segments = {}
    for name in (_SHORT.get(name, name) for name in SEGMENTS):
        base, limit = values.get(f"{name}.base"), values.get(f"{name}.limit")
        if base is None or limit is None:
            continue
        packed = 0 if name in {"gdt", "idt"} else values.get(f"{name}.attr", 0)
        # APM vol. 2, 15.5.1: bits 55:52 and 47:40 of the descriptor, put together.
        attributes = (packed & 0xFF) << 8 | (packed >> 8 & 0xF) << 20
        segments[name] = Segment(values.get(f"{name}.sel", 0), base, limit, attributes)
    return Cpu(registers=registers, segments=segments, cpl=values.get("cpl"))


def control_of(values: dict[str, int]) -> ControlBlock:
    """All of it; the state save area's registers as ``save_cr0``, its segments as ``save_cs_attrib``."""
    fields: dict[str, int] = {}
    for name, value in values.items():
        key, _, part = name.partition(".")
        saved = part or name in _REGISTERS
        fields[f"save_{key}{_PARTS[part]}" if saved else name] = value
    return ControlBlock("vmcb", fields)


def exit_of(values: dict[str, int]) -> Exit | None:
    if "exit_code" not in values:
        return None
    return Exit(
        reason=values["exit_code"],
        info1=values.get("exit_info1"),
        info2=values.get("exit_info2"),
        intr_info=values.get("exit_int_info"),
        error_code=values.get("exit_int_info_err"),
        isa="svm",
    )

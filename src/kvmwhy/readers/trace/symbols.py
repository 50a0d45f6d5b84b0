"""The words that traces print for numbers: back to the numbers.

Names as in the kernel's ``print fmt`` of ``kvm_exit`` and ``kvm_emulate_insn``, and in libtraceevent's KVM plugin
(``EXIT_NPF`` for ``npf``), which trace-cmd and older perf use.
"""

from __future__ import annotations

from typing import Final, Literal

from kvmwhy.abi import kvm_run
from kvmwhy.abi.x86 import vmx
from kvmwhy.abi.x86.exceptions import MNEMONICS

Isa = Literal["vmx", "svm"]
VMX: Final = 1  # values of the field ``isa``: KVM_ISA_VMX, KVM_ISA_SVM
SVM: Final = 2

_VMX_NUMBERS: Final = {reason.name: number for number, reason in vmx.REASONS.items()}
_SVM_NAMES: Final = {
    0x60: (
        "interrupt nmi smi init vintr cr0_sel_write read_idtr read_gdtr read_ldtr read_rt write_idtr write_gdtr"
        " write_ldtr write_rt rdtsc rdpmc pushf popf cpuid rsm iret swint invd pause hlt invlpg invlpga io msr"
        " task_switch ferr_freeze shutdown vmrun hypercall vmload vmsave stgi clgi skinit rdtscp icebp wbinvd"
        " monitor mwait mwait_cond xsetbv rdpru write_efer_trap"
    ),
    0xA0: "invlpgb invlpgb_illegal invpcid mcommit tlbsync buslock idle_hlt",
    0x400: "npf avic_incomplete_ipi avic_unaccelerated_access vmgexit",
    0x80000001: "vmgexit_mmio_read vmgexit_mmio_write vmgexit_nmi_complete vmgexit_ap_hlt_loop vmgexit_ap_jump_table",
    0x80000010: "vmgexit_page_state_change vmgexit_guest_request vmgexit_ext_guest_request vmgexit_ap_creation",
    0x8000FFFD: "vmgexit_hypervisor_feature vmgexit_term_request",
}
# The plugin's spellings, where they are not the kernel's in capitals; and the kernel's that changed.
_SVM_OTHERS: Final = {
    "intr": 0x60, "idtr_read": 0x66, "gdtr_read": 0x67, "ldtr_read": 0x68, "tr_read": 0x69, "read_tr": 0x69,
    "idtr_write": 0x6A, "gdtr_write": 0x6B, "ldtr_write": 0x6C, "tr_write": 0x6D, "write_tr": 0x6D, "ioio": 0x7B,
    "vmmcall": 0x81, "excp_base": 0x40, "err": 0xFFFFFFFF,
    "invalid_guest_state": 0xFFFFFFFF,
}  # fmt: skip


def _svm_numbers() -> dict[str, int]:
    numbers = dict(_SVM_OTHERS)
    for number in range(16):
        for offset, register in ((0, "read_cr"), (0x10, "write_cr"), (0x20, "read_dr"), (0x30, "write_dr")):
            numbers[f"{register}{number}"] = offset + number
        numbers[f"write_cr{number}_trap"] = 0x90 + number
    for first, names in _SVM_NAMES.items():
        numbers |= {name: first + n for n, name in enumerate(names.split())}
    for vector, mnemonic in MNEMONICS.items():
        numbers[f"{mnemonic.removeprefix('#').lower()} excp"] = 0x40 + vector
        numbers[f"excp_{mnemonic.removeprefix('#').lower()}"] = 0x40 + vector
    numbers["xf excp"] = 0x40 + 19
    return numbers


_SVM_NUMBERS: Final = _svm_numbers()

EXCEPTIONS: Final = {name: vector for vector, name in MNEMONICS.items()}
USERSPACE_EXITS: Final = {f"KVM_EXIT_{exit_.name}": number for number, exit_ in kvm_run.EXITS.items()}

# KVM_EMUL_INSN_F_*: CR0.PE 1, EFLAGS.VM 2, CS.D 4, CS.L 8.
MODE_FLAGS: Final = {"real": 0, "vm16": 3, "prot16": 1, "prot32": 5, "prot64": 9}
Mode = Literal["real16", "vm86", "prot16", "prot32", "long64"]
# The kernel sets EFLAGS.VM alone for virtual-8086 mode, for which its own table of names has no entry.
MODES: Final[dict[int, Mode]] = {0: "real16", 2: "vm86", 3: "vm86", 1: "prot16", 5: "prot32", 9: "long64"}


def exit_reason(words: str) -> tuple[int, int] | None:
    """``EPT_VIOLATION FAILED_VMENTRY``, ``npf``, ``EXIT_NPF``, ``0x31``: (reason, isa); isa 0 if nothing tells."""
    name, _, flags = words.partition(" ")
    if words.startswith("UNKNOWN (") and words[9:-1].isdigit():  # the plugin
        return int(words[9:-1]), 0
    if name.startswith("0x"):
        number = _hex(name)
        return None if number is None else (number, 0)
    if (number := _VMX_NUMBERS.get(name)) is not None:
        for flag in flags.replace("|", " ").split():
            bits = vmx.ENTRY_FAILURE if flag == "FAILED_VMENTRY" else _hex(flag)
            number |= bits or 0
        return number, VMX
    number = _SVM_NUMBERS.get(words.removeprefix("EXIT_").lower())
    return None if number is None else (number, SVM)


def _hex(text: str) -> int | None:
    try:
        return int(text, 16)
    except ValueError:
        return None

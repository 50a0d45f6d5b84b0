"""kvm_pvm: a KVM module that runs guests without VMX or SVM.

Measured on a 6.18 host kernel with kvm_pvm loaded (2026-11): every emulation failure, whether
of an access to MMIO or of a jump into it, gave zeros in four words, and as reason 0x1000 where the
guest was at CPL 0 (such code is emulated as a whole: RAM fails too), 0x2000 where it was at CPL 3.
The published series (Lai Jiangshan, "KVM: x86/PVM", LKML 2024-02-26) numbers its exits otherwise
(exception vectors, and 0x10000 upwards), so it explains nothing about these.
"""

from __future__ import annotations

from kvmwhy.abi.x86.exceptions import describe_vector

FIRST = 0x1000
LAST = 0x2FFF

# Of the published series. Later numbers differ between its versions and are left out.
PUBLISHED: dict[int, str] = {
    0x10000: "SYSCALL",
    0x20000: "HYPERCALL",
    0x30000: "ERETU",
}

MEASURED: dict[int, str] = {
    0x1000: "with failures at CPL 0",
    0x2000: "with failures at CPL 3",
}


def is_reason(word: int) -> bool:
    """A reason seen from, or published for, kvm_pvm and no hardware."""
    return FIRST <= word <= LAST or word in PUBLISHED


def is_exception_exit(reason: int, info1: int, intr_info: int) -> bool:
    """The published form of an exception: its vector in three words, with no valid bit anywhere."""
    return 0 < reason < 32 and reason == info1 == intr_info


def reason_name(word: int) -> str | None:
    return PUBLISHED.get(word)


def describe_reason(word: int) -> str:
    name = PUBLISHED.get(word)
    if name is not None:
        return f"{name} in the published PVM patches"
    if word < 32:
        return f"exception {describe_vector(word)} in the published PVM patches"
    if word in MEASURED:
        return f"a code of the software-only module kvm_pvm, seen {MEASURED[word]}; its meaning is not published"
    return "a code of the software-only module kvm_pvm; its meaning is not published"

"""x86 exception vectors (SDM vol. 3A, table 6-1; APM vol. 2, table 8-1)."""

from __future__ import annotations

MNEMONICS: dict[int, str] = {
    0: "#DE",
    1: "#DB",
    2: "NMI",
    3: "#BP",
    4: "#OF",
    5: "#BR",
    6: "#UD",
    7: "#NM",
    8: "#DF",
    10: "#TS",
    11: "#NP",
    12: "#SS",
    13: "#GP",
    14: "#PF",
    16: "#MF",
    17: "#AC",
    18: "#MC",
    19: "#XM",  # AMD and the kernel's SVM exit names spell it XF
    20: "#VE",
    21: "#CP",
    28: "#HV",
    29: "#VC",
    30: "#SX",
}

NAMES: dict[int, str] = {
    0: "divide error",
    1: "debug exception",
    2: "non-maskable interrupt",
    3: "breakpoint",
    4: "overflow",
    5: "BOUND range exceeded",
    6: "invalid opcode",
    7: "device not available",
    8: "double fault",
    9: "coprocessor segment overrun",
    10: "invalid TSS",
    11: "segment not present",
    12: "stack-segment fault",
    13: "general protection fault",
    14: "page fault",
    16: "x87 floating-point error",
    17: "alignment check",
    18: "machine check",
    19: "SIMD floating-point exception",
    20: "virtualization exception",
    21: "control protection exception",
    28: "hypervisor injection exception",
    29: "VMM communication exception",
    30: "security exception",
}

PUSHES_ERROR_CODE: frozenset[int] = frozenset((8, 10, 11, 12, 13, 14, 17, 21, 29, 30))


def mnemonic(vector: int) -> str | None:
    """``#PF`` for 14; ``None`` for a vector that is no architectural exception."""
    return MNEMONICS.get(vector)


def describe_vector(vector: int) -> str:
    """``#PF (page fault)``, or the bare vector where it has no name."""
    name = NAMES.get(vector)
    if name is None:
        return f"vector {vector}"
    short = MNEMONICS.get(vector)
    return f"{short} ({name})" if short else f"vector {vector} ({name})"

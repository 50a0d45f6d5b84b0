"""The table's ``limit`` words, as sentences: when a handler gives up, and when it does something else."""

from __future__ import annotations

# The handler gives up in this mode or form, whatever else holds. Keys: the table's ``limit``.
GIVES_UP = {
    "real-only": "KVM carries out {name} in real mode only.",
    "fxsave": "KVM does not carry out {name} in 64-bit mode.",
    "sysenter": "KVM does not carry out SYSENTER in 64-bit mode.",
    "no-rex-w": "KVM has the 8-byte CMPXCHG8B only; the 16-byte CMPXCHG16B makes it give up.",
    "enter-level": "KVM carries out ENTER at nesting level 0 only.",
    "intercept-only": (
        "KVM's table knows {name} only to check a nested hypervisor's intercepts; nothing carries it out."
    ),
    "reserved-nop": (
        "KVM's table accepts this reserved no-op (ENDBR32 and ENDBR64 are two of them), but nothing carries it out."
    ),
}

# The handler works, except: what to check when a failure was reported all the same.
CONDITIONAL = {
    "enter-level": "It gives up at any nesting level but 0.",
    "far-target": "It gives up if the selector names a call gate, a task gate or a TSS.",
    "outer-return": "It gives up if the return goes to an outer privilege level.",
    "fxsave": ("If the save area is not in RAM, KVM neither fails nor finishes: the vCPU spins on the instruction."),
    "plain-memory": (
        "If the operand is not in RAM, KVM neither fails nor finishes: the vCPU spins on the instruction."
    ),
    "sysenter": "In compatibility mode it needs an Intel-like guest CPUID; otherwise the guest gets #UD.",
    "syscall": (
        "It needs EFER.SCE and, outside 64-bit mode, a guest CPUID that is not Intel-like; "
        "otherwise the guest gets #UD."
    ),
    "hypercall": (
        "KVM does not make the hypercall: it rewrites the three bytes to the host vendor's form, "
        "or gives the guest #UD."
    ),
    "needs-cpuid": "The guest gets #UD if its CPUID does not offer the instruction.",
    "rsm": (
        "Outside SMM the guest gets #UD. In SMM, a damaged save area makes RSM fail: "
        "up to 5.13 as an emulation failure, from 5.14 on as a shutdown."
    ),
    "reads-operand": "It does nothing but read one byte of its operand.",
    "clflushopt": "It does nothing but read one byte of its operand.",
}

CET = "From 6.18 on KVM refuses it while the guest uses CET (shadow stacks or branch tracking)."

TZCNT = "KVM ignores the F3 prefix and carries out {0}, whose result differs from {1}'s on a CPU that has {1}."
WBNOINVD = "KVM ignores the F3 prefix and carries out WBINVD."
MOVNTDQA = "Linux 6.19 and 7.0 carry it out the wrong way round: they store the register to memory. 7.1 has it right."
ANY_CLFLUSH = "Nothing is saved, loaded or flushed: FXSAVE, XSAVE and LDMXCSR leave memory and registers as they were."
NEEDS_AVX = "The guest gets #UD if it has not turned AVX on (CR4.OSXSAVE, XCR0)."
ATOMIC = "On memory that is not RAM, KVM does it as a read and then a plain write: it is not atomic."
LEA_REGISTER = "Before 6.0 KVM accepted this invalid form of LEA and produced a bogus value."
BACKPORTED = "Several older stable series have it as well (from 5.4.79, 4.19.159, 4.14.208, 4.4.245)."

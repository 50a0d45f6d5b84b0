"""Where the model of KVM is known not to say what was measured, one narrow class after the other.

An exception holds on the benches whose results files it names, for the cases whose ids match. It says
why in one sentence, and on whose account: the bench's CPU, which is not silicon; Unicorn, the model's
own CPU; or the model. Nothing of KVM's own doing may be excused here.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

Account = Literal["bench", "unicorn", "model"]


class Known(NamedTuple):
    """``on``: results files, as ``vendor-series`` with ``-npt=0`` and the like. ``ids``: a regular expression."""

    ids: str
    on: tuple[str, ...]
    account: Account
    why: str

    def covers(self, run: str, case: str) -> bool:
        return run in self.on and re.fullmatch(self.ids, case) is not None


SVM: Final = ("svm-5.10", "svm-6.1", "svm-6.12", "svm-7.3")
SVM_WORDS: Final = SVM[1:]  # 5.10 reports no words to differ in
NPT0: Final = ("svm-6.1-npt=0", "svm-7.3-npt=0")
VMX: Final = ("vmx-5.10", "vmx-6.1", "vmx-7.3")
VMX_WORDS: Final = VMX[1:]
EPT0: Final = ("vmx-6.1-ept=0",)

_VEX16: Final = (
    "QEMU takes VEX for LDS and LES in all 16-bit code; hardware decodes it in protected mode (SDM vol. 2, 2.3)."
)
_ICEBP: Final = "QEMU's ICEBP comes to the guest as #UD, where hardware has #DB."
_BMI16: Final = "Bochs carries out BMI in real mode, where the manual says #UD (SDM vol. 2, table 2-29)."

KNOWN: Final = (
    # -- QEMU's TCG -------------------------------------------------------------------------------
    Known(
        r"(long64|prot32|real16)/0/stock/data/f(bld|bstp)",
        SVM_WORDS + NPT0,
        "bench",
        "QEMU reads and writes the last bytes of a packed decimal first (helper_fbld_ST0, helper_fbst_ST0).",
    ),
    Known(
        r"(long64|prot32|real16)/0/stock/readonly(-read)?/xsave",
        SVM_WORDS + NPT0,
        "bench",
        "QEMU 7.2's XSAVE touches its area in an order of its own.",
    ),
    Known(
        r"prot16/0/stock/(data|cached)/(vmovdqu-ymm|vmovdqu-ymmst|vaddps|andn)",
        SVM + NPT0,
        "bench",
        _VEX16,
    ),
    Known(
        r"prot16/0/cap204/data/(vmovdqu-ymm|vmovdqu-ymmst|vaddps|andn)",
        SVM_WORDS + NPT0,  # 5.10 has no capability 204
        "bench",
        _VEX16,
    ),
    Known(r"(long64|prot32|real16)/[03]/stock/event-(idt|stack)/icebp", SVM + NPT0, "bench", _ICEBP),
    Known(
        r"(long64|prot32|real16)/[03]/stock/event-idt/icebp-known",
        SVM[:3] + NPT0,  # 7.3 with nested paging loops, whatever the vector
        "bench",
        _ICEBP,
    ),
    Known(
        r"long64/0/stock/entry/vector-31",
        SVM + NPT0,
        "bench",
        "QEMU's VMRUN refuses exception 31, which the APM reserves but does not refuse (vol. 2, 15.20).",
    ),
    Known(
        r"prot32/0/stock/entry/cr0-pg-no-pe",
        ("svm-5.10",),
        "model",
        "After a guest with paging and no protection has shut down, KVM still has #PF to deliver; not explained.",
    ),
    Known(
        r"real16/0/stock/stack/ret",
        SVM + NPT0,
        "unicorn",
        "The guest runs off into zeros and over the end of CS, where QEMU 7.2 wraps IP and Unicorn does not.",
    ),
    Known(
        r"real16/0/stock/stack/(iret|lret)",
        NPT0[1:],
        "bench",
        "QEMU does not look at the limit of CS, so the guest runs on where #GP would meet the stack without memory.",
    ),
    # -- Bochs ------------------------------------------------------------------------------------
    Known(
        r"(long64|prot32)/0/stock/data/vmaskmovps",
        VMX + EPT0,
        "bench",
        "Bochs's VMASKMOVPS with an empty mask does not touch memory, so there is nothing to emulate.",
    ),
    Known(
        r"(long64|prot32|real16)/0/stock/data/(adcx|adox)",
        VMX + EPT0,
        "bench",
        "Bochs's Haswell has no ADX: #UD before memory is touched.",
    ),
    Known(
        r"real16/0/stock/(data|cached)/(andn|bextr|mulx|rorx|shlx|pdep)",
        VMX,
        "bench",
        _BMI16,
    ),
    Known(r"real16/0/cap204/data/andn", VMX_WORDS, "bench", _BMI16),
    Known(
        r"(long64|prot32|real16)/0/stock/data/clflush",
        VMX + EPT0,
        "unicorn",
        "CLFLUSH counts as a load on Bochs, which KVM then emulates; on Unicorn it does not touch memory.",
    ),
    Known(
        r"prot32/0/stock/entry/ss-dpl",
        VMX,
        "bench",
        "Bochs does not hold the DPL of SS against that of CS, as VM entry should (SDM vol. 3C, 27.3.1.2).",
    ),
    Known(
        r"real16/0/stock/event-stack-readonly/int",
        VMX[:2],
        "model",
        "KVM injects INT n again on top of the one it has emulated; where the guest goes from there is not modelled.",
    ),
    Known(
        r"long64/0/stock/readonly/cmpxchg16b",
        VMX_WORDS + EPT0,
        "unicorn",
        "A read-modify-write asks for the right to write at once; Unicorn reads first, so the page counts as mapped.",
    ),
    Known(
        r"long64/0/stock/stale/rao-aadd",
        VMX_WORDS + EPT0,
        "model",
        "The model tells a read-modify-write by the bytes that KVM fetches, here not those that the CPU ran.",
    ),
    Known(
        r"(long64|prot32)/0/stock/(data/(fbld|fldenv|frstor)|stack/iret)",
        EPT0,
        "bench",
        "Bochs begins with another part of the operand than Unicorn; without EPT the words have its address.",
    ),
    Known(
        r"(long64|prot32)/0/stock/readonly-read/xsave",
        EPT0,
        "bench",
        "Bochs's XSAVE writes MXCSR before the rest, and without EPT the words have its address.",
    ),
    # -- both ----------------------------------------------------------------------------------------
    Known(
        r"(long64|prot32|real16)/0/stock/data/movdiri|long64/0/stock/data/movdir64b",
        SVM + NPT0 + VMX + EPT0,
        "bench",
        "Neither bench has MOVDIRI and MOVDIR64B: #UD before memory is touched.",
    ),
    Known(
        r"long64/0/stock/data/(vmovdqu64-zmm(-st)?|vmovups-zmm-st|vpaddd-zmm|vmovdqu8-xmm|vaddph-zmm|kmovq)",
        SVM + NPT0 + VMX + EPT0,
        "bench",
        "Neither bench has AVX-512: #UD before memory is touched.",
    ),
    Known(
        r"(long64|prot32)/0/stock/event-(idt|stack)/gp-wrmsr(-known)?",
        SVM + NPT0 + VMX + EPT0,
        "unicorn",
        "Unicorn carries out WRMSR itself and accepts any MSR, so KVM is never asked and no #GP comes of it.",
    ),
    Known(
        r"real16/0/stock/data/movbe-st",
        SVM + NPT0 + VMX,
        "unicorn",
        "Unicorn's MOVBE takes 32 bits in 16-bit code, so the bytes that are stored come out of the wrong half.",
    ),
)

# Left out as a whole: run, ids, why.
APART: Final = (
    (
        "vmx-6.1-ept=0",
        r"real16/.*|.*/entry/.*",
        "Without EPT there is no unrestricted guest, and KVM's way around that is not modelled: virtual-8086 mode.",
    ),
)


def apart(run: str, case: str) -> bool:
    """Whether the model is not held to this case of this results file."""
    return any(run == where and re.fullmatch(ids, case) for where, ids, _ in APART)


def known(run: str, case: str) -> Known | None:
    """The exception that covers a case of a results file."""
    return next((one for one in KNOWN if one.covers(run, case)), None)

"""The record that was reported beside the one that came out here.

The same failure is the same kind and suberror at the same instruction. Words of the vendor are compared
where both records have them and they are the same vendor's; that they differ does not make it another
failure, but it is said.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.internal_error import EmulationFailure, decode_emulation
from kvmwhy.abi.x86.delivery_ev import delivery_layout
from kvmwhy.abi.x86.exceptions import mnemonic
from kvmwhy.abi.x86.vendor_guess import vendor_of_delivery, vendor_of_reason
from kvmwhy.abi.x86.vmx import EPT_MISCONFIG
from kvmwhy.arch.x86.mode import Bitness, Mode, ModeName
from kvmwhy.emulator.verdict import Verdict, verdict
from kvmwhy.reproduce.guest_plan import Expected, Plan
from kvmwhy.reproduce.outcome import Ended, Outcome, Row, Where

_UD: Final = 6
_RAM: Final = (
    "; nothing that it touches is without memory in the report, so that KVM had it to emulate for another reason: "
    "a CPU without unrestricted guest, a nested or a software-only KVM"
)
_WORDS: Final = ("reason", "info1", "info2", "intr_info", "error_code")
_BITS: Final[dict[ModeName, Bitness]] = {
    "real16": 16, "vm86": 16, "prot16": 16, "compat16": 16, "prot32": 32, "compat32": 32, "long64": 64,
}  # fmt: skip


def compare(plan: Plan, ended: Ended, where: Where) -> Outcome:
    """The verdict on one run."""
    expected = plan.expected
    rows = [*_kind_rows(plan, ended)]
    same = all(row.same is not False for row in rows)
    if same and expected.suberror == 1:
        rows += _emulation_rows(plan, ended, where)
        same = all(row.same is not False for row in rows if row.what == "instruction bytes")
    elif same and expected.suberror == 3:
        rows += _word_rows(expected, ended, where)
    exact = same and all(row.same is not False for row in rows) and expected.data == ended.words
    notes = (*plan.assumed, *(f"run without {text}" for text in ended.left_out))
    judged = judge(plan, where.kernel)
    since = judged.sentence if judged and expected.suberror == 1 and not expected.delivering else None
    if same:
        differ = [row.what for row in rows if row.same is False]
        but = f"; what differs: {', '.join(differ)}" if differ else ""
        answer = f"Reproduced on {where.text}: {_said(ended)}{but}."
        return Outcome("reproduced", answer, where, plan, ended, tuple(rows), exact, since, assumed=notes)
    answer = f"Not on this kernel ({where.text}): {happened(plan, ended)}."
    return Outcome("not-on-this-kernel", answer, where, plan, ended, tuple(rows), False, since, assumed=notes)


def judge(plan: Plan, kernel: str | None) -> Verdict | None:
    """What the table of the emulator says of the instruction on that kernel."""
    if not plan.insn:
        return None
    return verdict(plan.insn, mode=mode_of(plan), kernel=kernel)


def mode_of(plan: Plan) -> Mode:
    """The plan's mode, as the decoder and the emulator's table want it."""
    return Mode(plan.mode, _BITS[plan.mode], True, "")


# -- rows ----------------------------------------------------------------------------------------------


def _kind_rows(plan: Plan, ended: Ended) -> list[Row]:
    expected = plan.expected
    if expected.silent and ended.how != "internal-error":
        here = "the guest took #UD" if ended.vector == _UD else _said(ended)
        return [Row("failure", "#UD in place of the instruction", here, ended.vector == _UD)]
    number = expected.hardware_error if expected.kind == "entry-failure" else expected.exception
    reported = _kind(expected.kind, expected.suberror, number)
    if expected.silent:
        reported = "#UD, which the capability turns into suberror 1"
    here = _said(ended)
    same = expected.kind == ended.how and expected.suberror == ended.suberror
    if same and number is not None and ended.number is not None:
        same = _unsigned(number) == _unsigned(ended.number)
    rows = [Row("failure", reported, here, same)]
    # An event that is delivered first leaves RIP where it was; a fault in the prelude does not.
    if same and ended.how == "internal-error" and ended.rip is not None:
        rows.append(Row("at (linear)", f"{plan.rip:#x}", f"{ended.rip:#x}", ended.rip == plan.rip))
    return rows


def _unsigned(number: int) -> int:
    """VMEXIT_INVALID is 32 bits wide before 7.0, and 64 from then on."""
    return 0xFFFF_FFFF if number == (1 << 64) - 1 else number


def _kind(kind: str, suberror: int | None, number: int | None) -> str:
    if kind == "internal-error":
        return f"internal error, suberror {suberror}"
    return kind.replace("-", " ") + ("" if number is None else f" {number:#x}")


def _said(ended: Ended) -> str:
    """How it ended, in a few words."""
    match ended.how:
        case "internal-error":
            return f"internal error, suberror {ended.suberror}"
        case "entry-failure" | "exception-exit" | "unknown-exit":
            return _kind(ended.how, None, ended.number)
        case "refused" | "error":
            return f"{ended.error}"
        case "halted" if ended.vector is not None:
            return f"the guest took {mnemonic(ended.vector)}"
        case "halted":
            return "the guest halted"
        case "looped":
            return "the guest went on without an end"
    return ended.how


def _emulation_rows(plan: Plan, ended: Ended, where: Where) -> list[Row]:
    expected = plan.expected
    cut = expected.ndata is None
    then = decode_emulation(expected.data, expected.ndata, cut=cut).failure
    now = decode_emulation(ended.words).failure
    return [_bytes_row(plan, then, now), *_exit_rows(expected, then, now, where)]


def _bytes_row(plan: Plan, then: EmulationFailure, now: EmulationFailure) -> Row:
    """The first instruction counts; what lies behind it in the window may have been read at another time."""
    what = "instruction bytes"
    traced = plan.expected.traced
    if traced and now.insn is not None:
        length = min(len(traced), len(now.insn))
        return Row(what, traced.hex(" "), now.insn.hex(" "), traced[:length] == now.insn[:length])
    old = "none" if then.insn is None else then.insn.hex(" ")
    new = "none" if now.insn is None else now.insn.hex(" ")
    if then.layout == "none" or then.flags is None:
        return Row(what, "not reported", new, None, "the kernel that failed reported no bytes")
    if now.layout == "none" or now.flags is None:
        return Row(what, old, "not reported", None, "this kernel reports no bytes")
    if then.insn is None or now.insn is None:
        return Row(what, old, new, then.insn is now.insn)
    length = len(plan.insn) or min(len(then.insn), len(now.insn))
    same = then.insn[:length] == now.insn[:length]
    if same and then.insn != now.insn:
        return Row(what, old, new, True, "the instruction is the same; what follows it is not")
    return Row(what, old, new, same)


def _exit_rows(expected: Expected, then: EmulationFailure, now: EmulationFailure, where: Where) -> list[Row]:
    if expected.words:
        reason, info1, info2, intr_info, error_code = expected.words
        then = EmulationFailure("final-no-bytes", None, None, reason, info1, info2, intr_info, error_code)
    if not then.has_exit or not now.has_exit:
        why = "the kernel that failed reported no words" if not then.has_exit else "this kernel reports none"
        return [Row("vendor words", _listed(then), _listed(now), None, why)]
    old = tuple(getattr(then, name) or 0 for name in _WORDS)
    new = tuple(getattr(now, name) or 0 for name in _WORDS)
    vendor = where.vendor or vendor_of_reason(new[0], info1=new[1], info2=new[2], intr_info=new[3]).vendor
    if expected.vendor is None or vendor is None or vendor != expected.vendor:
        why = f"reported by {expected.vendor or 'an unknown vendor'}, here it is {vendor or 'unknown'}"
        return [Row("vendor words", _listed(then), _listed(now), None, why)]
    return [Row(name, f"{a:#x}", f"{b:#x}", a == b) for name, a, b in zip(_WORDS, old, new, strict=True)]


def _listed(failure: EmulationFailure) -> str:
    if not failure.has_exit:
        return "none"
    return " ".join(f"{getattr(failure, name) or 0:#x}" for name in _WORDS)


def _word_rows(expected: Expected, ended: Ended, where: Where) -> list[Row]:
    """Suberror 3: the CPU at the end is chance."""
    vendor = where.vendor or vendor_of_delivery(ended.words).vendor
    if vendor != expected.vendor or len(expected.data) != len(ended.words):
        why = "another vendor's words, or another kernel's count of them"
        old, new = (" ".join(map(hex, words)) for words in (expected.data, ended.words))
        return [Row("vendor words", old, new, None, why)]
    stale = vendor == "vmx" and not delivery_layout(expected.data).qualification_fresh
    rows = []
    for number, (a, b) in enumerate(zip(expected.data, ended.words, strict=True)):
        last = number == len(expected.data) - 1 and number >= 3
        why = ""
        if last and not (len(expected.data) == 4 and expected.data[1] & 0xFFFF == EPT_MISCONFIG):
            why = "the CPU that the vCPU last ran on is chance"
        elif number == 2 and stale:
            why = "may be an earlier exit's: kernels before 6.9 do not refresh it"
        rows.append(Row(f"data[{number}]", f"{a:#x}", f"{b:#x}", None if why and a != b else a == b, why))
    return rows


# -- what happened instead -----------------------------------------------------------------------------


def happened(plan: Plan, ended: Ended) -> str:
    """One clause for a run that did not fail as reported."""
    if ended.how == "refused":
        return f"KVM refused the guest before it ran ({ended.error})"
    if ended.how == "error":
        return f"KVM_RUN failed ({ended.error})"
    if plan.expected.kind == "entry-failure":
        return f"the CPU entered the guest with this state, and then: {_said(ended)}"
    if plan.expected.suberror != 1:
        return _said(ended)
    text = f"`{plan.text}`" if plan.text else "the instruction"
    holes = {hole.gpa & -0x1000 for hole in plan.holes}
    mmio = [
        exit_text for exit_text, _ in zip((e for e in ended.exits if e.startswith("MMIO")), ended.touched, strict=False)
    ]
    if ended.alone is not None and ended.alone != "carried out":
        ud = "; this CPU may lack it" if ended.vector == _UD or "#UD" in ended.alone else ""
        return f"at {text} the guest {ended.alone}{ud}"
    if any(gpa & -0x1000 in holes for gpa in ended.touched) and mmio:
        return f"KVM carried out {text} ({mmio[-1]})"
    if ended.alone == "carried out":
        who = "KVM carried out" if plan.holes else "the CPU itself carried out"
        return f"{who} {text}{'' if plan.holes else _RAM}"
    if ended.how == "internal-error" and ended.rip not in {None, plan.rip}:
        return f"{text} was carried out, and {_said(ended)} came later, at {ended.rip:#x}"
    return f"{_said(ended)}{'' if plan.holes else _RAM}"

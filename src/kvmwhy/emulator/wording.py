"""The atlas in words: one verdict, and a row from the oldest kernel to the newest."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kvmwhy.emulator.atlas import Answer, Kernel, Row
from kvmwhy.emulator.measured import Measured

_ACCESS: Final = re.compile(r"([rwio])(\d+)")
_VERBS: Final = {"r": "reads", "w": "writes", "i": "in", "o": "out"}
_EXCEPTIONS: Final = dict(
    enumerate(
        (
            *("#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "exception 9", "#TS", "#NP", "#SS", "#GP"),
            *("#PF", "exception 15", "#MF", "#AC", "#MC", "#XM"),
        )
    )
)
_WORDS: Final = {
    "end": "where it goes on",
    "x87": "x87 and MMX registers",
    "xmm": "XMM registers",
    "ymm": "YMM registers",
    "segments": "segment registers",
    "tables": "descriptor tables",
    "control": "control registers",
    "operand": "the operand in memory",
    "memory": "other memory",
    "exception": "the exception",
}


class Span(NamedTuple):
    """Neighbouring measured kernels with one outcome."""

    kernels: tuple[Kernel, ...]
    verdict: Measured


def spans(row: Row, vendor: str = "svm", module_args: str = "") -> list[Span]:
    """Oldest first."""
    joined: list[Span] = []
    for kernel, verdict in zip(row.kernels, row.verdicts, strict=True):
        if verdict is None or (kernel.vendor, kernel.module_args) != (vendor, module_args):
            continue
        if joined and joined[-1].verdict.same_outcome(verdict):
            last = joined.pop()
            joined.append(Span((*last.kernels, kernel), verdict if verdict.compared != "no" else last.verdict))
        else:
            joined.append(Span((kernel,), verdict))
    return joined


def accesses(text: str) -> str:
    """``r8r8w4`` as "reads 8 + 8, writes 4 bytes"."""
    groups: list[tuple[str, list[str]]] = []
    for what, size in _ACCESS.findall(text):
        if groups and groups[-1][0] == what:
            groups[-1][1].append(size)
        else:
            groups.append((what, [size]))
    if not groups:
        return ""
    return ", ".join(f"{_VERBS[what]} {' + '.join(sizes)}" for what, sizes in groups) + " bytes"


def say(verdict: Measured) -> str:
    """One verdict in one clause."""
    seen = accesses(verdict.accesses)
    with_accesses = f": {seen}" if seen else ""
    match verdict.kind:
        case "emulated":
            text = f"carried out{with_accesses}"
            if verdict.compared == "same":
                return f"{text}; the same result as on a CPU"
            if verdict.compared == "wrong":
                return f"{text}; WRONG: {_wrong(verdict)} not as on a CPU"
            return text
        case "fails":
            after = f" after it {seen}" if seen else ""
            return f"fails{after}: KVM_EXIT_INTERNAL_ERROR, suberror {verdict.code}"
        case "exception":
            name = _EXCEPTIONS.get(verdict.code, f"exception {verdict.code}")
            text = f"the guest gets {name}{with_accesses}"
            return f"{text}, as on a CPU" if verdict.compared == "same" else text
        case "no-exit":
            return "never ends: KVM neither fails nor finishes"
        case "endless":
            return f"never ends: the same accesses again and again ({accesses(verdict.accesses[:6])})"
        case "shutdown":
            return "the guest ends in a triple fault"
        case "exit":
            return f"KVM leaves to userspace with exit reason {verdict.code}"
        case "refused":
            return "could not be asked: KVM refused the state"
        case _:
            return f"KVM_RUN fails with errno {verdict.code}"


def short(verdict: Measured) -> str:
    """The same in a word or two, for tables."""
    words: list[str] = [verdict.kind]
    match verdict.kind:
        case "exception":
            words = [_EXCEPTIONS.get(verdict.code, f"exception {verdict.code}")]
        case "fails":
            words.append(f"suberror {verdict.code}")
        case "exit" | "error":
            words.append(str(verdict.code))
    if verdict.accesses:
        words.append(verdict.accesses)
    if verdict.kind == "emulated" and verdict.wrong:
        words.append(f"wrong: {' '.join(verdict.wrong)}")
    return " ".join(words)


def _wrong(verdict: Measured) -> str:
    names = [_WORDS.get(name, name) for name in verdict.wrong]
    return f"{', '.join(names)} {'is' if len(names) == 1 and not names[0].endswith('s') else 'are'}"


def series(kernels: tuple[Kernel, ...]) -> str:
    """``6.1 … 6.18``, or the one."""
    names = [f"{kernel.series[0]}.{kernel.series[1]}" for kernel in kernels]
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"


def since(row: Row) -> str:
    """From which measured kernel on it is carried out."""
    history = spans(row)
    if not history:
        return "not measured"
    if not history[-1].verdict.works:
        worked = [span for span in history if span.verdict.works]
        newest = series(history[-1].kernels[-1:])
        return f"never, up to {newest}" if not worked else f"not any more in {newest}"
    if len(history) == 1:
        return f"{series(history[0].kernels[:1])} or older"
    first = len(history) - 1
    while first and history[first - 1].verdict.works:
        first -= 1
    if first == 0:
        return f"{series(history[0].kernels[:1])} or older"
    return f"between {series(history[first - 1].kernels[-1:])} (not yet) and {series(history[first].kernels[:1])}"


def say_answer(answer: Answer) -> str:
    """A row, for one kernel, in a sentence; "" if nothing was measured."""
    if answer.status == "measured" and answer.verdict and answer.kernel:
        kernel = answer.kernel
        module = "kvm-amd" if kernel.vendor == "svm" else "kvm-intel"
        return f"Measured on Linux {kernel.release} ({module}): {say(answer.verdict)}."
    below, above = answer.below, answer.above
    if below and above:
        if answer.changed:
            return (
                f"Not measured on this kernel; it changed between {series((below[0],))} ({say(below[1])})"
                f" and {series((above[0],))} ({say(above[1])})."
            )
        return (
            f"Not measured on this kernel; alike in {series((below[0],))} and {series((above[0],))}: {say(above[1])}."
        )
    if nearest := below or above:
        return f"Not measured on this kernel; the nearest that was is {series((nearest[0],))}: {say(nearest[1])}."
    return ""

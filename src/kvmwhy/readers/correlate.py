"""Several readers' records of one failure made one record; whatever could be two failures stays two.

Two records are of the same failure if nothing in them differs and something ties them: the same RIP,
or the same words. Without a tie they are put together only if there is one of each kind of evidence
in the whole input, and then the record says that this was assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec.structs import replace

from kvmwhy.readers import Evidence
from kvmwhy.readers.host_trouble import is_alone
from kvmwhy.record import Cpu, Failure, Host, Source

_ASSUMED: Final = "it is assumed that the {second} and the {first} tell of the same failure: there is one of each"
# Records of one RIP that are compared with each newcomer; a guest that fails there again and again has equal ones.
_MOST_RIVALS: Final = 16
_FOLDS: Final = 8  # a line that is folded at each of its blanks
_NARROW: Final = (1 << 32) - 1
_APART: Final = {
    "source", "host", "cpu", "cpu_shared", "kind", "repairs", "damage", "silent", "data", "data_apart", "ndata", "code",
    "arch_from", "seen_at",
}  # fmt: skip
_NAMES: Final = tuple(name for name in Failure.__struct_fields__ if name not in _APART)


def combine(pieces: Sequence[Evidence], *, far_apart: bool = False) -> list[Failure]:
    """All failures of evidence about one host; those of one reader are never put together.

    What stands ``far_apart`` needs a tie.
    """
    telling = [piece for piece in pieces if piece.failures]
    if len({piece.format for piece in telling}) < 2:
        return [failure for piece in telling for failure in piece.failures]
    out: list[Failure] = []
    formats: list[set[str]] = []
    ties: dict[object, list[int]] = {}
    for piece in telling:
        names = set((piece.format or "evidence").split(" + "))
        for failure in piece.failures:
            at = _tied(failure, names, out, formats, ties)
            if at is None:
                at = len(out)
                out.append(failure)
                formats.append(set(names))
            else:
                out[at] = merge(out[at], failure)
                formats[at] |= names
            for tie in _ties(out[at]):
                known = ties.setdefault(tie, [])
                if at not in known:
                    known.append(at)
    return out if far_apart else _one_of_each(out, formats)


def _rip(failure: Failure) -> int | None:
    if failure.cpu and "rip" in failure.cpu.registers:
        return failure.cpu.registers["rip"]
    return failure.emulation.rip if failure.emulation else None


def _ties(failure: Failure) -> Iterator[object]:
    rip = _rip(failure)
    if rip is not None and not failure.cpu_shared:
        yield ("rip", rip & _NARROW)
    if failure.data:
        yield ("data", failure.suberror, failure.data[:3])
    if failure.source.line is not None:
        yield ("line", failure.source.line)  # two readers have read the same line


def _tied(
    failure: Failure, names: set[str], out: list[Failure], formats: list[set[str]], ties: dict[object, list[int]]
) -> int | None:
    found = {
        at
        for tie in _ties(failure)
        for at in ties.get(tie, ())[:_MOST_RIVALS]
        if not names & formats[at] and agree(out[at], failure)
    }
    return found.pop() if len(found) == 1 else None


def _one_of_each(out: list[Failure], formats: list[set[str]]) -> list[Failure]:
    if len(out) != 2 or formats[0] & formats[1] or not agree(*out):
        return out
    first, second = ("/".join(sorted(names)) for names in formats)
    both = merge(*out)
    if _is_one_line(*out):
        return [both]
    return [replace(both, damage=(*both.damage, _ASSUMED.format(first=first, second=second)))]


def _is_one_line(failure: Failure, other: Failure) -> bool:
    """Two readers read the same number in one line, or in a line that was folded: nothing is assumed."""
    numbers = [(f.kind, f.exit_reason, f.suberror, f.hardware_error, f.errno) for f in (failure, other)]
    lines = [f.source.line or 0 for f in (failure, other)]
    return numbers[0] == numbers[1] and abs(lines[0] - lines[1]) <= _FOLDS


def _is_narrow(failure: Failure) -> bool:
    """Whether the registers were printed with 32 bits, as QEMU does outside of 64-bit code."""
    return failure.cpu is not None and failure.cpu.wide is False


def agree(failure: Failure, other: Failure) -> bool:
    """Whether nothing that both of them have differs, at the width at which it was printed."""
    if failure.cpu_shared or other.cpu_shared or is_alone(failure) or is_alone(other):
        return False
    if failure.kind != other.kind and "other" not in {failure.kind, other.kind}:
        return False
    if failure.source.vcpu != other.source.vcpu and None not in {failure.source.vcpu, other.source.vcpu}:
        return False
    if any(None not in (a := getattr(failure, n), b := getattr(other, n)) and a and b and a != b for n in _NAMES):
        return False
    width = _NARROW if _is_narrow(failure) or _is_narrow(other) else -1
    rips = {rip & width for rip in (_rip(failure), _rip(other)) if rip is not None}
    if len(rips) > 1:
        return False
    size = min(len(failure.data), len(other.data))
    if failure.data[:size] != other.data[:size]:
        return False
    if failure.cpu and other.cpu:
        mine, theirs = failure.cpu.registers, other.cpu.registers
        if any((theirs.get(name, value) ^ value) & width for name, value in mine.items() if name in {"cr0", "cr3"}):
            return False
    return True


def merge(failure: Failure, other: Failure) -> Failure:
    """What ``one`` says, and from ``other`` what it does not."""
    more: dict[str, Any] = {n: getattr(failure, n) or getattr(other, n) for n in _NAMES}
    for name in ("suberror", "hardware_error", "hardware_reason", "exit_reason", "exception"):
        mine = getattr(failure, name)
        more[name] = getattr(other, name) if mine is None else mine
    longer = failure if len(failure.data) >= len(other.data) else other
    more["data"] = longer.data
    more["ndata"] = longer.ndata if longer.ndata is not None else failure.ndata or other.ndata
    more["data_apart"] = longer.data_apart or failure.data_apart or other.data_apart
    more["code"] = failure.code or other.code
    more["arch_from"] = failure.arch_from if failure.arch else other.arch_from
    more["seen_at"] = other.seen_at | failure.seen_at
    more["kind"] = other.kind if failure.kind == "other" else failure.kind
    more["cpu"] = _cpu(failure.cpu, other.cpu)
    more["silent"] = failure.silent and other.silent
    more["source"] = _source(failure.source, other.source)
    more["host"] = told_by(failure.host, other.host)
    more["repairs"] = tuple(dict.fromkeys((*failure.repairs, *other.repairs)))
    more["damage"] = tuple(dict.fromkeys((*failure.damage, *other.damage)))
    merged: Failure = replace(failure, **more)
    return merged


def _cpu(cpu: Cpu | None, other: Cpu | None) -> Cpu | None:
    if cpu is None or other is None:
        return cpu or other
    registers = other.registers | cpu.registers
    if cpu.wide is False and other.wide is not False:  # what was printed with 32 bits may have more
        for name, value in other.registers.items():
            if not (registers[name] ^ value) & _NARROW:
                registers[name] = value
    both: Cpu = replace(
        cpu,
        registers=registers,
        segments=other.segments | cpu.segments,
        **{
            n: getattr(other, n) if getattr(cpu, n) is None else getattr(cpu, n)
            for n in ("wide", "cpl", "smm", "halted")
        },
    )
    return both


def _source(one: Source, other: Source) -> Source:
    both: Source = replace(
        one,
        vcpu=other.vcpu if one.vcpu is None else one.vcpu,
        vmm=one.vmm or other.vmm,
        guest=one.guest or other.guest,
        time=one.time or other.time,
        writer=one.writer or other.writer,
    )
    return both


def told_by(host: Host, other: Host, *, without: frozenset[str] = frozenset()) -> Host:
    """What ``one`` says of the host, and from ``other`` what it does not, but for the fields in ``without``."""
    more: dict[str, Any] = {}
    for name in host.__struct_fields__:
        mine, theirs = getattr(host, name), getattr(other, name)
        if name in without:
            continue
        if name == "events":  # they hold dicts, which have no hash
            more[name] = (*mine, *(event for event in theirs if event not in mine))
        else:
            more[name] = tuple(dict.fromkeys((*mine, *theirs))) if isinstance(mine, tuple) else mine or theirs
    if host.vendor and host.vendor != other.vendor:
        more["vendor_from"] = host.vendor_from
    both: Host = replace(host, **more)
    return both

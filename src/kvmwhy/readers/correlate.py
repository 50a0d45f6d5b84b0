"""Several readers' records of one failure made one record; whatever could be two failures stays two.

Two records are of the same failure if nothing in them differs and something ties them: the same RIP,
or the same words. Without a tie they are put together only if there is one of each kind of evidence
in the whole input, and then the record says that this was assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec.structs import fields, replace

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
_NAMES: Final = tuple(f.name for f in fields(Failure) if f.name not in _APART)


def combine(pieces: Sequence[Evidence]) -> list[Failure]:
    """All failures of evidence about one host; those of one reader are never put together."""
    told = [piece for piece in pieces if piece.failures]
    if len({piece.format for piece in told}) < 2:
        return [failure for piece in told for failure in piece.failures]
    out: list[Failure] = []
    formats: list[set[str]] = []
    ties: dict[object, list[int]] = {}
    for piece in told:
        name = piece.format or "evidence"
        for failure in piece.failures:
            at = _tied(failure, name, out, formats, ties)
            if at is None:
                at = len(out)
                out.append(failure)
                formats.append({name})
            else:
                out[at] = merge(out[at], failure)
                formats[at].add(name)
            for tie in _ties(out[at]):
                known = ties.setdefault(tie, [])
                if at not in known:
                    known.append(at)
    return _one_of_each(out, formats)


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
    failure: Failure, name: str, out: list[Failure], formats: list[set[str]], ties: dict[object, list[int]]
) -> int | None:
    found = {
        at
        for tie in _ties(failure)
        for at in ties.get(tie, ())[:_MOST_RIVALS]
        if name not in formats[at] and agree(out[at], failure)
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


def _is_one_line(one: Failure, other: Failure) -> bool:
    """Two readers read the same number in one line, or in a line that was folded: nothing is assumed."""
    numbers = [(f.kind, f.exit_reason, f.suberror, f.hardware_error, f.errno) for f in (one, other)]
    lines = [f.source.line or 0 for f in (one, other)]
    return numbers[0] == numbers[1] and abs(lines[0] - lines[1]) <= _FOLDS


def _is_narrow(failure: Failure) -> bool:
    """Whether the registers were printed with 32 bits, as QEMU does outside of 64-bit code."""
    return failure.cpu is not None and failure.cpu.wide is False


def agree(one: Failure, other: Failure) -> bool:
    """Whether nothing that both of them have differs, at the width at which it was printed."""
    if one.cpu_shared or other.cpu_shared or is_alone(one) or is_alone(other):
        return False
    if one.kind != other.kind and "other" not in {one.kind, other.kind}:
        return False
    if one.source.vcpu != other.source.vcpu and None not in {one.source.vcpu, other.source.vcpu}:
        return False
    if any(None not in (a := getattr(one, n), b := getattr(other, n)) and a and b and a != b for n in _NAMES):
        return False
    width = _NARROW if _is_narrow(one) or _is_narrow(other) else -1
    rips = {rip & width for rip in (_rip(one), _rip(other)) if rip is not None}
    if len(rips) > 1:
        return False
    size = min(len(one.data), len(other.data))
    if one.data[:size] != other.data[:size]:
        return False
    if one.cpu and other.cpu:
        mine, theirs = one.cpu.registers, other.cpu.registers
        if any((theirs.get(name, value) ^ value) & width for name, value in mine.items() if name in {"cr0", "cr3"}):
            return False
    return True


def merge(one: Failure, other: Failure) -> Failure:
    """What ``one`` says, and from ``other`` what it does not."""
    more: dict[str, Any] = {n: getattr(one, n) or getattr(other, n) for n in _NAMES}
    for name in ("suberror", "hardware_error", "hardware_reason", "exit_reason", "exception"):
        mine = getattr(one, name)
        more[name] = getattr(other, name) if mine is None else mine
    longer = one if len(one.data) >= len(other.data) else other
    more["data"] = longer.data
    more["ndata"] = longer.ndata if longer.ndata is not None else one.ndata or other.ndata
    more["data_apart"] = longer.data_apart or one.data_apart or other.data_apart
    more["code"] = one.code or other.code
    more["arch_from"] = one.arch_from if one.arch else other.arch_from
    more["seen_at"] = other.seen_at | one.seen_at
    more["kind"] = other.kind if one.kind == "other" else one.kind
    more["cpu"] = _cpu(one.cpu, other.cpu)
    more["silent"] = one.silent and other.silent
    more["source"] = _source(one.source, other.source)
    more["host"] = told_by(one.host, other.host)
    more["repairs"] = tuple(dict.fromkeys((*one.repairs, *other.repairs)))
    more["damage"] = tuple(dict.fromkeys((*one.damage, *other.damage)))
    merged: Failure = replace(one, **more)
    return merged


def _cpu(one: Cpu | None, other: Cpu | None) -> Cpu | None:
    if one is None or other is None:
        return one or other
    registers = other.registers | one.registers
    if one.wide is False and other.wide is not False:  # what was printed with 32 bits may have more
        for name, value in other.registers.items():
            if not (registers[name] ^ value) & _NARROW:
                registers[name] = value
    both: Cpu = replace(
        one,
        registers=registers,
        segments=other.segments | one.segments,
        **{
            n: getattr(other, n) if getattr(one, n) is None else getattr(one, n)
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


def told_by(one: Host, other: Host, *, without: frozenset[str] = frozenset()) -> Host:
    """What ``one`` says of the host, and from ``other`` what it does not, but for the fields in ``without``."""
    more: dict[str, Any] = {}
    for name in one.__struct_fields__:
        mine, theirs = getattr(one, name), getattr(other, name)
        if name in without:
            continue
        if name == "events":  # they hold dicts, which have no hash
            more[name] = (*mine, *(event for event in theirs if event not in mine))
        else:
            more[name] = tuple(dict.fromkeys((*mine, *theirs))) if isinstance(mine, tuple) else mine or theirs
    if one.vendor and one.vendor != other.vendor:
        more["vendor_from"] = one.vendor_from
    both: Host = replace(one, **more)
    return both

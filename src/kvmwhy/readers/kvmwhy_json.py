"""kvmwhy's own JSON, read back into the records it was made from.

The object holds what was concluded beside what was seen; only what was seen is read. Text of a log
comes back as it was made harmless. A value of a wrong type is left out and named, never trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from kvmwhy.contract import READ
from kvmwhy.deferred_re import deferred
from kvmwhy.readers import Evidence
from kvmwhy.record import Failure

FORMAT: Final = "kvmwhy JSON"

_MARK: Final = deferred(rb"\{\s{0,16}\"schema\"\s{0,4}:")
_LINE: Final = deferred(rb"\{\"schema\": ?\d")
_NOT_REGISTERS: Final = frozenset(
    {"mode", "mode_from", "smm", "cpl", "cpl_printed", "halted", "shared", "wide", "segments"}
)
_X86: Final = frozenset({"rip", "rax", "cr0", "efer"})
_MOST: Final = 1 << 64
_MOST_VECTOR: Final = 255
# As it is in the object / as it is in the record; the rest has one name.
_NUMBERS: Final = ("hardware_error", "hardware_reason", "exception_error_code")
_PLAIN: Final = (
    "kind", "arch", "arch_from", "suberror", "ndata", "exception", "errno", "exit_reason", "cpu_shared", "silent",
    "seen_at",
)  # fmt: skip


def detect(data: bytes) -> bool:
    return _MARK.search(data) is not None


def take(data: bytes, *, first_line: int = 1) -> tuple[Evidence, bytes]:
    """Read the objects, one a line or one document; return the rest of the input, its lines where they were."""
    if (whole := _document(data)) is not None:
        failures, damage = _records(whole, first_line)
        return Evidence(tuple(failures), tuple(damage), FORMAT), b""
    rest: list[bytes] = []
    failures, damage = [], []
    for number, line in enumerate(data.split(b"\n"), first_line):
        match = _LINE.search(line)
        if match is None:
            rest.append(line)
            continue
        rest.append(b"")
        try:
            objects = [msgspec.json.decode(line[match.start() :].rstrip(b" \t\r,]"))]
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            damage.append(f"the JSON object in line {number} is torn; it is left out")
            continue
        more, torn = _records(objects, number)
        failures += more
        damage += torn
    return Evidence(tuple(failures), tuple(damage[:64]), FORMAT if failures or damage else None), b"\n".join(rest)


def _document(data: bytes) -> list[Any] | None:
    """The objects, if the whole input is one JSON value: what jq prints of one, or of a list of them."""
    if data.lstrip()[:1] not in {b"{", b"["}:
        return None
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    values = value if isinstance(value, list) else [value]
    return values if all(isinstance(v, dict) and "schema" in v for v in values) else None


def _records(objects: list[Any], line: int) -> tuple[list[Failure], list[str]]:
    failures: list[Failure] = []
    damage: list[str] = []
    for item in objects:
        if not isinstance(item, dict) or item.get("schema") not in READ:
            damage.append(f"the JSON object in line {line} has none of the schemas that this kvmwhy reads: 1, 2")
            continue
        try:
            failures.append(record(item))
        except (msgspec.ValidationError, ValueError, TypeError, KeyError, AttributeError) as error:
            damage.append(f"the JSON object in line {line} is not as kvmwhy writes it: {str(error)[:80]}")
    return failures, damage


def record(item: dict[str, Any]) -> Failure:
    """The record of one object. Raises ValueError, TypeError, KeyError or ValidationError for a wrong one."""
    values: dict[str, Any] = {key: item[key] for key in _PLAIN if item.get(key) is not None}
    values |= {key: _number(item[key]) for key in _NUMBERS if item.get(key) is not None}
    values["data"] = [_number(word) for word in item.get("data") or ()]
    values["data_apart"] = {int(index): _number(word) for index, word in (item.get("data_apart") or {}).items()}
    values["source"] = dict(item.get("source") or {})
    if host := item.get("host"):
        events = [{**event, "fields": _fields(event)} for event in host.get("events") or ()]
        values["host"] = {**host, "ram_bytes": _optional(host.get("ram_bytes")), "events": events}
    if setup := item.get("setup"):
        numbers = {name: _optional(setup.get(name)) for name in ("msr", "value", "firmware_error", "status")}
        values["setup"] = {**setup, **numbers, "fields": _fields(setup)}
    for name in ("symptom", "speaker"):
        if part := item.get(name):
            values[name] = {**part, "fields": _fields(part)}
    if cpu := item.get("cpu"):
        values["cpu"] = _cpu(cpu)
        values["cpu_shared"] = bool(item.get("cpu_shared", cpu.get("shared", False)))
    if code := item.get("code"):
        window = [None if b == "??" else int(b, 16) for b in code["window"].split()]
        values["code"] = {"window": window, "rip_at": code["rip_at"]}
    if control := item.get("control"):
        fields = {name: _number(v) for name, v in control["fields"].items()}
        values["control"] = {"kind": control["kind"], "fields": fields}
    if emulation := item.get("emulation"):
        insn = bytes.fromhex(emulation["insn"])
        values["emulation"] = {
            "rip": _number(emulation["rip"]),
            "cs_base": _number(emulation["cs_base"]),
            "insn": insn,
            "mode": emulation.get("mode"),
        }
    if seen := item.get("exit_seen"):
        values["exit"] = {name: v if name == "isa" else _optional(v) for name, v in seen.items()}
    values["exit_fields"] = {name: _number(value) for name, value in (item.get("exit_fields") or {}).items()}
    values["faults"] = [_fault(fault) for fault in item.get("faults") or ()]
    values["trace"] = list(_events(item.get("trace") or (), schema=item["schema"]))
    if "answer" in item:
        values["stored"] = _stored(item)
    if values.get("arch") is None and not _X86.isdisjoint((item.get("cpu") or {}).keys()):
        values |= {"arch": "x86", "arch_from": "register names"}  # a VMM's own record need not say it
    values["repairs"] = item.get("repairs") or []
    values["damage"] = item.get("torn", item.get("damage")) or []
    return msgspec.convert(values, Failure)


def _cpu(cpu: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in cpu if name not in _NOT_REGISTERS]
    fields: dict[str, Any] = {name: cpu.get(name) for name in ("smm", "halted", "wide")}
    fields["cpl"] = cpu["cpl_printed"] if "cpl_printed" in cpu else cpu.get("cpl")
    fields["registers"] = {name: _number(cpu[name]) for name in names}
    fields["segments"] = {
        name: {part: _number(value) for part, value in segment.items()}
        for name, segment in (cpu.get("segments") or {}).items()
    }
    return fields


def _fault(fault: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: _optional(fault.get(name)) for name in ("error_code", "cr2", "rip", "at", "value")}
    vector = fault["vector"]
    if not isinstance(vector, int) or not 0 <= vector <= _MOST_VECTOR:
        raise ValueError(f"no vector: {vector!r}")
    return {**fault, **numbers}


def _events(trace: Any, *, schema: int) -> Iterator[dict[str, Any]]:
    """Schema 1 had seconds, as floats."""
    for event in trace:
        time = event["time"]
        seconds = time if time is None or schema == 1 else time / 1_000_000_000
        yield {"name": event["name"], "time": seconds, "fields": _fields(event)}


def _fields(part: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: _number(value) for name, value in (part.get("numbers") or {}).items()}
    return numbers | (part.get("texts") or {})


def _stored(item: dict[str, Any]) -> dict[str, Any]:
    """How it had been answered. Schema 1 had only the sentence, and did not say whose it was."""
    by, origins = item.get("answered_by") or {}, item.get("origins") or [{}]
    return {
        "schema": item["schema"],
        "version": by.get("version"),
        "knowledge": by.get("knowledge"),
        "answer": item["answer"],
        "mechanism": (item.get("mechanism") or {}).get("id"),
        "origin": origins[0].get("id"),
    }


def _number(text: Any) -> int:
    if not isinstance(text, str):
        raise TypeError(f"a number is not written as a 0x string: {text!r}")
    value = int(text, 16)
    if not -_MOST < value < _MOST:
        raise ValueError("a number has more than 64 bits")
    return value


def _optional(text: Any) -> int | None:
    return None if text is None else _number(text)

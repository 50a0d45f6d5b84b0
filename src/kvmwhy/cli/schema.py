"""The record's JSON Schemas (draft 2020-12): what kvmwhy writes, and what a VMM may write for it to read."""

from __future__ import annotations

from typing import Any, Final, get_args

from kvmwhy.abi.kvm_run import EXITS
from kvmwhy.contract import ID, READ, SCHEMA, Explanation
from kvmwhy.record import SEGMENT_NAMES, TABLE_NAMES, Kind

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
# fmt: off
_REGISTERS: Final = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "rip", "rflags", "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "dr0", "dr1", "dr2", "dr3", "dr6", "dr7",
)
# fmt: on

_Schema = dict[str, Any]


# -- the pieces ------------------------------------------------------------------------------------


def _a(type_: str, says: str, **more: Any) -> _Schema:
    return {"type": type_, "description": says, **more}


def _hex(says: str) -> _Schema:
    return {"$ref": "#/$defs/hex", "description": says}


def _or_null(schema: _Schema) -> _Schema:
    says = {"description": schema["description"]} if "description" in schema else {}
    bare = {name: value for name, value in schema.items() if name != "description"}
    return {"anyOf": [bare, {"type": "null"}], **says}


def _object(says: str, properties: _Schema, *required: str, **more: Any) -> _Schema:
    return _a("object", says, properties=properties, required=list(required), **more)


def _list(says: str, items: _Schema) -> _Schema:
    return _a("array", says, items=items)


def _texts(says: str) -> _Schema:
    return _list(says, {"type": "string"})


def _definitions() -> _Schema:
    part = {name: _hex(name) for name in ("selector", "base", "limit")}
    part["attributes"] = _hex("type 11:8, S 12, DPL 14:13, P 15, AVL 20, L 21, D/B 22, G 23")
    return {
        "hex": _a("string", "An unsigned number of up to 64 bits.", pattern="^0x[0-9a-f]{1,16}$"),
        "segment": _object(
            "A segment with its hidden part, or a table.", part, "selector", "base", "limit", "attributes"
        ),
    }


def _seen() -> _Schema:
    """What a VMM can write, and kvmwhy reads: what was seen, nothing of what was concluded."""
    exits = ", ".join(f"{number} {exit_.name}" for number, exit_ in list(EXITS.items())[:18])
    return {
        "schema": _a("integer", f"The version of this form; {SCHEMA} is today's.", enum=sorted(READ)),
        "kind": _a("string", "What kind of failure.", enum=list(get_args(Kind))),
        "exit_reason": _a("integer", f"kvm_run.exit_reason: {exits} …", minimum=0),
        "suberror": _a("integer", "kvm_run.internal.suberror: 1 EMULATION, 2 SIMUL_EX, 3 DELIVERY_EV, 4 UNEXPECTED."),
        "ndata": _a("integer", "kvm_run.internal.ndata as it is in the page; data has at most 16.", minimum=0),
        "data": _list("kvm_run.internal.data.", {"$ref": "#/$defs/hex"}),
        "hardware_error": _hex("kvm_run.fail_entry.hardware_entry_failure_reason."),
        "hardware_reason": _hex("kvm_run.hw.hardware_exit_reason."),
        "exception": _a("integer", "kvm_run.ex.exception: a vector.", minimum=0),
        "exception_error_code": _hex("kvm_run.ex.error_code."),
        "errno": _a("string", "Of a KVM_RUN that failed, by its name: EFAULT; or its number."),
    }


def _source() -> _Schema:
    return {
        "vmm": _a("string", "The program that ran the vCPU."),
        "guest": _a("string", "The VMM's own name for the guest, or libvirt's."),
        "vcpu": _a("integer", "Its index in its VM.", minimum=0),
        "count": _a("integer", "How many equal failures this stands for; those of a watch add up.", minimum=1),
        "path": _a("string", "The file, or the process, in which it was seen."),
        "line": _a("integer", "The line in that file.", minimum=1),
        "alike": _a("integer", "How many vCPUs stopped alike in one moment, this one included.", minimum=1),
        "last_line": _a("integer", "That of the last of ``count``."),
        "time": _a("string", "As the log printed it; ISO 8601 from kvmwhy watch."),
        "last_time": _a("string", "That of the last of ``count``."),
        "writer": _a("string", "Who wrote the line, or which thread failed."),
    }


def _cpu() -> _Schema:
    return {
        **{name: _hex(f"{name}, under its 64-bit name whatever the mode.") for name in _REGISTERS},
        "smm": _a("boolean", "In system-management mode."),
        "cpl": _a("integer", "The privilege level.", minimum=0, maximum=3),
        "halted": _a("boolean", "Waiting in HLT."),
        "segments": _object(
            "The segments and tables.", {name: {"$ref": "#/$defs/segment"} for name in (*SEGMENT_NAMES, *TABLE_NAMES)}
        ),
    }


# -- the two schemas -------------------------------------------------------------------------------


def record_schema() -> _Schema:
    """What a VMM writes in its own error path: see contrib/kvmwhy.h."""
    properties = _seen()
    properties["source"] = _object("Who failed.", {name: _source()[name] for name in ("vmm", "vcpu", "count")})
    properties["cpu"] = _object("Registers, as far as they are at hand.", _cpu())
    return {
        "$schema": _DRAFT,
        "title": "A failure of a KVM vCPU, as its VMM saw it",
        **_object("One line of JSON, anywhere in a log.", properties, "schema", "kind"),
        "$defs": _definitions(),
    }


def explanation_schema() -> _Schema:
    """What ``kvmwhy explain --json``, ``attach --json`` and ``watch`` write: one object a line.

    Written by msgspec from the types of ``kvmwhy.contract``. Registers are members of ``cpu`` itself, which no type can
    say, and every member is written always: both are added here.
    """
    import msgspec

    schema = msgspec.json.schema(Explanation)
    parts: dict[str, _Schema] = {name: part for name, part in schema["$defs"].items() if "properties" in part}
    for name, part in parts.items():
        if name not in _SPARSE:
            part["required"] = [member for member in part["properties"] if member not in _MAY_BE_ABSENT]
    top = parts.pop(Explanation.__name__)
    top["properties"]["cpu"] = _or_null(_object("The vCPU, as the VMM showed it.", _shown_cpu(), **_REGISTER))
    return {
        "$schema": _DRAFT,
        "$id": ID,
        "title": "A failure of a KVM vCPU, explained by kvmwhy",
        **{name: value for name, value in top.items() if name != "title"},
        "$defs": {**_definitions(), **parts},
    }


_MAY_BE_ABSENT: Final = frozenset({"live", "machine", "symbols"})
_SPARSE: Final = frozenset({"At", "FixPart"})  # members without a value are left out
_REGISTER: Final[_Schema] = {"additionalProperties": {"$ref": "#/$defs/hex"}}  # other architectures have other names


def _shown_cpu() -> _Schema:
    shown = {name: schema if name in {*_REGISTERS, "segments"} else _or_null(schema) for name, schema in _cpu().items()}
    return shown | {
        "mode": _or_null(_a("string", "real16, vm86, prot16, prot32, compat16, compat32 or long64.")),
        "mode_from": _or_null(_a("string", "How that is known.")),
        "cpl_printed": _or_null(_a("integer", "CPL where the VMM printed it.")),
        "wide": _or_null(_a("boolean", "Printed as 64-bit code's registers.")),
        "shared": _a("boolean", "The registers may belong to another failure."),
    }

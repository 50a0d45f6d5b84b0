"""The record's JSON Schemas (draft 2020-12): what kvmwhy writes, and what a VMM may write for it to read."""

from __future__ import annotations

from typing import Any, Final, get_args

from kvmwhy.abi.kvm_run import EXITS
from kvmwhy.record import SEGMENT_NAMES, TABLE_NAMES, Kind
from kvmwhy.render.json import SCHEMA

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
        "schema": _a("integer", "The version of this form.", const=SCHEMA),
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
        "vcpu": _a("integer", "Its index in its VM.", minimum=0),
        "count": _a("integer", "How many equal failures this stands for; those of a watch add up.", minimum=1),
        "path": _a("string", "The file, or the process, in which it was seen."),
        "line": _a("integer", "The line in that file.", minimum=1),
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
    """What ``kvmwhy explain --json``, ``attach --json`` and ``watch`` write: one object a line."""
    properties: _Schema = {name: schema if name in _ALWAYS else _or_null(schema) for name, schema in _seen().items()}
    properties["source"] = _object(
        "Where it was seen.",
        {name: schema if name == "count" else _or_null(schema) for name, schema in _source().items()},
        "path", "line", "vmm", "vcpu", "count",
    )  # fmt: skip
    properties |= _concluded()
    properties |= {
        "host": _object("What the same evidence says of the host.", _host()),
        "cpu": _or_null(_object("The vCPU, as the VMM showed it.", _shown_cpu())),
        "code": _or_null(
            _object("The VMM's window of code.", {
                "window": _a("string", "Bytes in hex; ?? where it could not be read."),
                "rip_at": _or_null(_a("integer", "The index of the byte at RIP.")),
            }, "window", "rip_at")
        ),
        "control": _or_null(
            _object("A VMCS or VMCB that the kernel's log dumped.", {
                "kind": _a("string", "Which.", enum=["vmcs", "vmcb"]),
                "fields": _a("object", "By the kernel's names.", additionalProperties={"$ref": "#/$defs/hex"}),
            }, "kind", "fields")
        ),
        "emulation": _or_null(
            _object("What kvm_emulate_insn said.", {
                "rip": _hex("Not linear."),
                "cs_base": _hex("To be added."),
                "insn": _a("string", "The fetch window, bytes in hex."),
                "mode": _or_null(_a("string", "The CPU's mode.")),
            }, "rip", "cs_base", "insn", "mode")
        ),
        "exit_seen": _or_null(_object("A VM-exit whose words were given by name.", _exit_words())),
        "trace": _list("What happened on this vCPU before, oldest first.", _object("One event.", {
            "name": _a("string", "The tracepoint."),
            "time": _or_null(_a("number", "Seconds on the trace's clock.")),
            "numbers": _a("object", "Its fields.", additionalProperties={"type": "string"}),
            "texts": _a("object", "Its fields that are no numbers.", additionalProperties={"type": "string"}),
        }, "name", "time", "numbers", "texts")),
        "silent": _a("boolean", "KVM injected #UD and went on: no VMM heard of it."),
        "cpu_shared": _a("boolean", "The registers may belong to another failure."),
        "damage": _texts("What was torn, lost, guessed or repaired."),
        "repairs": _texts("Undone without loss."),
        "torn": _texts("Torn, lost or guessed."),
        "live": _a("object", "kvmwhy attach only: pid, vcpu, state (stopped, running, unclear), why, guest."),
    }  # fmt: skip
    return {
        "$schema": _DRAFT,
        "title": "A failure of a KVM vCPU, explained by kvmwhy",
        **_object(
            "Members are only ever added; a change of meaning takes a new schema. Every u64 is a 0x string.",
            properties,
            *(name for name in properties if name not in _MAY_BE_ABSENT),
        ),
        "$defs": _definitions(),
    }


_ALWAYS: Final = {"schema", "kind", "data"}
_MAY_BE_ABSENT: Final = {"live"}


def _concluded() -> _Schema:
    fix = {who: _a("string", f"For the {who}'s author or operator.") for who in ("guest", "vmm", "host")}
    cause = {
        "id": _a("string", "See `kvmwhy cause ID`."),
        "family": _a("string", "Its family."),
        "confidence": _a("string", "How sure.", enum=["certain", "likely", "possible"]),
        "title": _a("string", "In a line."),
        "for": _texts("Evidence for it."),
        "against": _texts("Evidence against it."),
        "fix": _object("What to do.", fix),
        "references": _texts("Where to read more."),
    }
    return {
        "answer": _a("string", "The whole answer in a sentence or two."),
        "suberror_name": _or_null(_a("string", "The suberror by name.")),
        "layout": _or_null(_a("string", "How the words are laid out: docs/architecture.md.")),
        "layout_also": _texts("Layouts that fit as well."),
        "vendor": _or_null(_a("string", "Whose words they are.", enum=["vmx", "svm", "tdx", "pvm"])),
        "vendor_from": _a("string", "How that is known."),
        "exit": _or_null(
            _object("The VM-exit.", {**_exit_words(), "name": _or_null(_a("string", "The exit by name.")),
                                     "words": _texts("What the words say.")}, "reason", "name", "words")
        ),
        "instruction": _or_null(
            _object("What was to be emulated.", {
                "address": _or_null(_hex("RIP.")),
                "bytes": _a("string", "In hex."),
                "text": _or_null(_a("string", "Disassembled.")),
                "complete": _a("boolean", "All its bytes are there."),
                "source": _or_null(_a("string", "report: KVM's own bytes; code: the VMM's window.")),
                "operands": _list("Its memory operands.", _a("object", "segment, effective, linear, size, access.")),
                "emulator": _or_null(_a("object", "What KVM's emulator does with it: outcome, since, never, slot.")),
            }, "address", "bytes", "text", "source")
        ),
        "access": _or_null(
            _object("The access that failed.", {
                "kind": _a("string", "fetch, read, write, event-delivery or page-walk."),
                "gva": _or_null(_hex("Linear address.")),
                "gpa": _or_null(_hex("Guest physical address.")),
                "what": _or_null(_a("string", "What lives there.")),
            }, "kind", "gva", "gpa", "what")
        ),
        "causes": _list("Best first.", _object("A finding.", cause, *cause)),
    }  # fmt: skip


def _exit_words() -> _Schema:
    names = ("reason", "info1", "info2", "intr_info", "error_code")
    return {name: _or_null(_hex(name)) for name in names} | {"isa": _or_null(_a("string", "vmx or svm."))}


def _host() -> _Schema:
    texts = {
        "kernel": "Its release.",
        "qemu": "The version of QEMU.",
        "vendor": "vmx, svm, tdx or pvm, named by the evidence.",
        "vendor_from": "How that is known.",
        "hypervisor": "It is itself a virtual machine, of this hypervisor.",
    }
    return {name: _or_null(_a("string", says)) for name, says in texts.items()} | {
        "ram_bytes": _or_null(_hex("The guest's RAM.")),
        "rivals": _texts("Other hypervisors' modules."),
        "unrestricted_guest_hint": _a("boolean", "QEMU printed its advice about unrestricted mode."),
        "facts": _texts("Other remarkable things."),
    }


def _shown_cpu() -> _Schema:
    shown = {name: schema if name in {*_REGISTERS, "segments"} else _or_null(schema) for name, schema in _cpu().items()}
    return shown | {
        "mode": _or_null(_a("string", "real16, vm86, prot16, prot32, compat16, compat32 or long64.")),
        "mode_from": _or_null(_a("string", "How that is known.")),
        "cpl_printed": _or_null(_a("integer", "CPL where the VMM printed it.")),
        "wide": _or_null(_a("boolean", "Printed as 64-bit code's registers.")),
        "shared": _a("boolean", "The registers may belong to another failure."),
    }

"""The JSON Schema (draft 2020-12) of each command's --json, by the command's name, made from the types."""

from __future__ import annotations

from collections.abc import Callable
from inspect import cleandoc
from typing import Any, Final

import msgspec

from kvmwhy import outputs
from kvmwhy.cli.schema import explanation_schema, record_schema
from kvmwhy.contract import CatalogueEntry, Explanation

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_Schema = dict[str, Any]


def schema_of(name: str) -> _Schema:
    """The schema with this name; raises KeyError if there is none."""
    schema: _Schema = _plain(_SCHEMAS[name]())
    return schema


def _plain(part: Any) -> Any:
    """Descriptions without the source's indentation, which docstrings have before Python 3.13."""
    if isinstance(part, list):
        return [_plain(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        name: cleandoc(value) if name == "description" and isinstance(value, str) else _plain(value)
        for name, value in part.items()
    }


def names() -> tuple[str, ...]:
    """Every schema that there is."""
    return tuple(_SCHEMAS)


def _explanation() -> _Schema:
    return explanation_schema()


def _record() -> _Schema:
    return {"$id": _id("record", 2), **record_schema()}


def _catalogue() -> _Schema:
    return _any_of("cause", "An entry of kvmwhy's catalogue", CatalogueEntry)


def _atlas() -> _Schema:
    from kvmwhy.emulator.atlas_file import Kernel
    from kvmwhy.emulator.trap_file import Column

    kinds = (
        *(outputs.AtlasForm, outputs.AtlasDifference, outputs.EmulatorFault, Kernel),
        *(outputs.TrappedForm, outputs.TrapDifference, Column),
    )
    return _any_of("atlas", "What kvmwhy atlas --json writes: one object a line", *kinds)


def _probe() -> _Schema:
    kinds = (outputs.ProbedForm, outputs.ProbedAccess)
    return _any_of("probe", "One form that kvmwhy probe ran on this host; an access on arm64 and riscv64", *kinds)


def _doctor() -> _Schema:
    return _any_of("doctor", "What a host offers to KVM and to kvmwhy", outputs.CheckedHost)


def _reproduce() -> _Schema:
    return _any_of("reproduce", "A failure that kvmwhy ran again", outputs.Reproduction, outputs.ReproductionMatrix)


def _run() -> _Schema:
    schema = _any_of("run", "What kvmwhy run --json writes: exits, and the failure explained", outputs.RunExit)
    return _with_explanation(schema)


def _attach() -> _Schema:
    schema = _any_of(
        "attach", "What kvmwhy attach --json writes: failures explained; with --all, each vCPU", outputs.AttachedVcpu
    )
    return _with_explanation(schema)


def _triage() -> _Schema:
    from kvmwhy.fleet.triage import Triage

    schema = _any_of("triage", "Groups of failures, as kvmwhy triage --json writes them", Triage)
    top = schema["$defs"]["Triage"]
    top["properties"] = {"schema": {"const": 1}, **top["properties"]}
    for part in schema["$defs"].values():
        part["required"] = list(part["properties"])
    return schema


def _scan() -> _Schema:
    from kvmwhy.fleet.row import SCHEMAS, WIDE, Row

    schema = _any_of("scan", "A row of kvmwhy scan's table; members without a value are left out", Row)
    row = schema["$defs"]["Row"]
    row["properties"] = {"row": {"enum": list(SCHEMAS)}, **row["properties"]}
    row["properties"] |= {name: {"type": "string", "pattern": "^0x[0-9a-f]{1,16}$"} for name in WIDE}
    row["required"] = ["row", "path", "offset"]
    return schema


_SCHEMAS: Final[dict[str, Callable[[], _Schema]]] = {
    "explain": _explanation,
    "attach": _attach,
    "watch": _explanation,
    "exec": _explanation,
    "run": _run,
    "reproduce": _reproduce,
    "atlas": _atlas,
    "probe": _probe,
    "doctor": _doctor,
    "scan": _scan,
    "triage": _triage,
    "cause": _catalogue,
    "record": _record,
}


def _id(name: str, version: int = 1) -> str:
    return f"urn:kvmwhy:schema:{name}:{version}"


def _any_of(name: str, title: str, *types: type) -> _Schema:
    refs, parts = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    which: _Schema = {"anyOf": list(refs)} if len(types) > 1 else dict(refs[0])
    return {"$schema": _DRAFT, "$id": _id(name), "title": title, **which, "$defs": parts}


def _with_explanation(schema: _Schema) -> _Schema:
    """The same, or a failure explained."""
    explained = explanation_schema()
    parts = explained.pop("$defs")
    top = {name: value for name, value in explained.items() if not name.startswith("$")}
    own = schema.pop("$ref")
    parts |= {**schema.pop("$defs"), Explanation.__name__: top}
    return {**schema, "anyOf": [{"$ref": f"#/$defs/{Explanation.__name__}"}, {"$ref": own}], "$defs": parts}

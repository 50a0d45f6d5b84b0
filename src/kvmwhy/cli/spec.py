"""``kvmwhy spec``: the record's JSON Schema, and code with which a VMM writes the record itself."""

from __future__ import annotations

import os
import sys
from typing import Final

import msgspec

from kvmwhy.cli.output import complain
from kvmwhy.cli.schema import explanation_schema, record_schema
from kvmwhy.cli.status import BAD_INPUT, DONE

_SCHEMAS: Final = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/schemas"
_ENDING: Final = ".schema.json"
_FILES: Final = {"c": "kvmwhy.h", "rust": "kvmwhy.rs", "go": "kvmwhy.go"}


def run(what: str) -> int:
    """Print it; return the exit status."""
    if what in _FILES:
        text = emitter(_FILES[what])
        if text is None:
            complain(f"{_FILES[what]} is not part of this installation; it is in contrib/ of kvmwhy's repository")
            return BAD_INPUT
        sys.stdout.write(text)
        return DONE
    schema = record_schema() if what == "record" else explanation_schema()
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n")
    return DONE


def run_schema(name: str | None) -> int:
    """Print the shipped schema with this name, or all names; return the exit status."""
    if name is None:
        sys.stdout.write("".join(f"{known}\n" for known in schema_names()))
        return DONE
    if name not in schema_names():
        complain(f"no schema {name!r}; there are {', '.join(schema_names())}")
        return BAD_INPUT
    with open(f"{_SCHEMAS}/{name}{_ENDING}", encoding="utf-8") as stream:
        sys.stdout.write(stream.read())
    return DONE


def schema_names() -> list[str]:
    """The commands whose JSON has a schema in the package."""
    return sorted(name.removesuffix(_ENDING) for name in os.listdir(_SCHEMAS) if name.endswith(_ENDING))


def emitter(name: str) -> str | None:
    """A file of contrib/, from the package or from the repository around it."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for directory in (f"{package}/contrib", f"{os.path.dirname(os.path.dirname(package))}/contrib"):
        try:
            with open(f"{directory}/{name}", encoding="utf-8") as stream:
                return stream.read()
        except OSError:
            continue
    return None

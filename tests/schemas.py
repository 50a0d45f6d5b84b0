"""Holds what a command wrote against the schema that the package ships."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

import pytest


@cache
def validator(name: str) -> Any:
    """Of one schema; the emulated hosts of the lab have no jsonschema, which needs compiled packages."""
    draft = pytest.importorskip("jsonschema", reason="the package jsonschema is not installed").Draft202012Validator
    schema = json.loads((files("kvmwhy") / "schemas" / f"{name}.schema.json").read_text())
    draft.check_schema(schema)
    return draft(schema)


def keeps_to(name: str, lines: str | Iterable[str]) -> list[Any]:
    """The objects, one a line; fails on the first that is not as the schema has it."""
    objects = [json.loads(line) for line in (lines.splitlines() if isinstance(lines, str) else lines)]
    for item in objects:
        errors = sorted(validator(name).iter_errors(item), key=lambda error: list(error.absolute_path))
        assert not errors, f"{name}: {errors[0].json_path}: {errors[0].message[:300]}"
    return objects

"""Write docs/api.md from the docstrings of what kvmwhy promises to programs."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ForwardRef

import msgspec

import kvmwhy
from kvmwhy import fleet, testing
from kvmwhy.diagnosis.answer import Advice, Mechanism, Origin, Proof
from kvmwhy.record import Source

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"
HEAD = """# kvmwhy as a library

Made by `python tools/make_api.py` from the docstrings.

```python
import kvmwhy

for diagnosis in kvmwhy.explain("guest.log"):
    print(diagnosis.answer)
```

`examples/vmm_error_path.py` is for the author of a VMM, `examples/fleet_report.py` for whoever runs many hosts. The
tests run both.

## What is stable

* The names on this page keep their meaning within a major version. Members and keyword arguments may be added; one is
  removed only after a release in which it warns. Before 1.0, the same holds from one minor version to the next.
* The JSON has a number of its own (`schema`), and a JSON Schema with an `$id` ([json.md](json.md)). Members are only
  added within one.
* Ids of mechanisms, origins, causes and error lines never change their meaning. New ones are added.
* Which answer a failure gets is not promised: it changes when more is known. `answered_by` in the JSON names the
  edition.
* All other modules may change in any release.

`import kvmwhy` loads nothing else; each name is loaded at its first use. No function prints, and none but `explain` and
those of `kvmwhy.fleet` open files.
"""
TYPES = (Mechanism, Origin, Proof, Advice)


def main() -> int:
    """Write the page, or with --check compare it; 1 if it differs."""
    if "--check" not in sys.argv:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        print("docs/api.md is not what tools/make_api.py makes")
        return 1
    return 0


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## `kvmwhy`\n"]
    parts += [_entry("kvmwhy", name, getattr(kvmwhy, name)) for name in kvmwhy.__all__ if name != "__version__"]
    parts += ["### The parts of a `Diagnosis`\n", *(_type(type_) for type_ in TYPES)]
    parts += ["### `failure.source`\n", _members(Source)]
    parts.append(f"## `kvmwhy.fleet`\n\n{_text(fleet)}\n")
    parts += [_entry("kvmwhy.fleet", name, value) for name, value in _functions(fleet)]
    parts.append(f"## `kvmwhy.testing`\n\n{_text(testing)}\n")
    parts += [_entry("kvmwhy.testing", name, value) for name, value in _functions(testing)]
    return "\n".join(parts)


def _functions(module: ModuleType) -> list[tuple[str, Any]]:
    return [
        (name, value)
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


def _entry(module: str, name: str, value: Any) -> str:
    if inspect.isclass(value):
        return f"### `{module}.{name}`\n\n{_text(value)}\n\n{_members(value)}"
    return f"### `{module}.{name}`\n\n```python\n{name}{_signature(value)}\n```\n\n{_text(value)}\n"


def _signature(function: Any) -> str:
    """As it stands in the source, with the names of types as they are written there."""
    parts: list[str] = []
    is_keyword = False
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not is_keyword:
            is_keyword = True
            parts += [] if any(part.startswith("*") for part in parts) else ["*"]
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parts.append(f"{star}{parameter.name}: {_kind(parameter.annotation)}{default}")
    return f"({', '.join(parts)}) -> {_kind(signature.return_annotation)}"


def _kind(annotation: Any) -> str:
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    if isinstance(annotation, str):
        return annotation
    return str(getattr(annotation, "__name__", annotation))


def _type(type_: Any) -> str:
    return f"#### `{type_.__name__}`\n\n{_text(type_)}\n\n{_members(type_)}"


def _members(type_: Any) -> str:
    if issubclass(type_, msgspec.Struct):
        names = [(field.name, type_.__annotations__.get(field.name)) for field in msgspec.structs.fields(type_)]
    else:
        names = list(type_.__annotations__.items())
    names += [
        (name, inspect.signature(value.fget).return_annotation)
        for name, value in vars(type_).items()
        if isinstance(value, property) and value.fget is not None
    ]
    return "".join(f"* `{name}`: `{_kind(kind)}`\n" for name, kind in names)


def _text(value: Any) -> str:
    """The docstring as Markdown: double backquotes become single ones, and examples a block of code."""
    text = (inspect.getdoc(value) or "").replace("``", "`")
    out: list[str] = []
    inside = False
    for line in text.splitlines():
        begins = line.lstrip().startswith((">>>", "..."))
        if begins and not inside:
            out += ["```python"]
            inside = True
        elif inside and not line.strip():
            out += ["```"]
            inside = False
        out.append(line.strip() if inside else line)
    return "\n".join([*out, "```"] if inside else out)


if __name__ == "__main__":
    sys.exit(main())

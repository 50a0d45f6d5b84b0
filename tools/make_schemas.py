"""Write src/kvmwhy/schemas/, which the package ships: the JSON Schema of each command's --json."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from kvmwhy.cli.schemas import names, schema_of

SCHEMAS = Path(__file__).resolve().parent.parent / "src" / "kvmwhy" / "schemas"


def main() -> int:
    """Write every file, or with --check compare them; 1 if one differs."""
    stale = 0
    for name, text in files().items():
        path = SCHEMAS / name
        if "--check" not in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path.name} is not what tools/make_schemas.py makes")
            stale = 1
    return stale


def files() -> dict[str, str]:
    """File name → text."""
    return {f"{name}.schema.json": text_of(name) for name in names()}


def text_of(name: str) -> str:
    """One schema, to be read."""
    return msgspec.json.format(msgspec.json.encode(schema_of(name)), indent=2).decode() + "\n"


if __name__ == "__main__":
    sys.exit(main())

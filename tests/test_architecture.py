"""The direction of imports, and what start-up may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from needs import Need

SOURCE = Path(__file__).parent.parent / "src" / "kvmwhy"

# Each room, and the rooms that it may import: docs/architecture.md has the reasons.
MAY_IMPORT = {
    "abi": set[str](),
    "record": {"abi"},
    "deferred_re": set[str](),
    "whole_file": set[str](),
    "contract": {"record"},
    "outputs": {"contract"},
    "vmms": set[str](),
    "arch": {"abi", "record"},
    "emulator": {"abi", "arch"},
    "ingest": {"deferred_re", "abi", "record"},
    "readers": {"deferred_re", "abi", "record", "contract", "ingest", "vmms"},
    "pipeline": {"abi", "record", "ingest", "readers"},
    "diagnosis": {"abi", "record", "arch", "emulator", "vmms"},
    "machine": {"abi", "arch", "emulator"},
    "live": {"abi", "record", "arch", "ingest", "readers", "whole_file"},
    "testing": {"abi"},
    "symbols": set[str](),
    "fleet": {"abi", "record", "arch", "emulator", "ingest", "readers", "pipeline", "diagnosis", "whole_file"},
    "render": {"abi", "record", "contract", "arch", "emulator", "diagnosis", "fleet", "vmms"},
    "report": {"abi", "record", "ingest", "readers", "pipeline", "diagnosis", "render"},
    "api": {"abi", "record", "arch", "readers", "pipeline", "diagnosis", "render", "report"},
    "page": {"report", "render", "whole_file"},
    "serve": {"fleet", "page", "render", "report"},
    "pytest": set[str](),  # only what `import kvmwhy` offers
    "probe": {"abi", "arch", "emulator", "machine"},
    "reproduce": {"abi", "record", "arch", "emulator", "diagnosis", "machine"},
    "cli": {
        "fleet",
        "probe",
        "reproduce",
        "abi",
        "record",
        "contract",
        "outputs",
        "arch",
        "emulator",
        "ingest",
        "readers",
        "pipeline",
        "diagnosis",
        "machine",
        "live",
        "render",
        "symbols",
        "report",
        "page",
        "serve",
        "whole_file",
    },
    "__main__": {"cli"},
}
# Nothing else opens a file, a socket or a process; the emulator reads its own table.
MAY_DO_IO = {"api", "pytest", "cli", "machine", "live", "fleet", "emulator", "symbols", "page", "serve", "whole_file"}
IO_MODULES = {"os", "io", "pathlib", "socket", "subprocess", "mmap", "fcntl", "tempfile", "shutil", "ctypes"}


def room_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, absolute, wherever the statement stands."""
    found = set()
    package = ["kvmwhy", *path.relative_to(SOURCE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found |= {name} if node.module else {f"{name}.{alias.name}" for alias in node.names}
    return found


FILES = [path for path in sorted(SOURCE.rglob("*.py")) if room_of(path) != "__init__"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_run_one_way(path: Path) -> None:
    """A room imports only rooms that stand before it on the road."""
    room = room_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "kvmwhy" and len(parts) > 1 and parts[1] != room:
            assert parts[1] in MAY_IMPORT[room], f"{room} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_the_edges_touch_the_world(path: Path) -> None:
    """What reads, decides and renders is pure: I/O stays at the edges."""
    if room_of(path) not in MAY_DO_IO:
        touched = {name.split(".")[0] for name in imports(path)} & IO_MODULES
        assert not touched, f"{path.name} imports {touched}"


@pytest.mark.parametrize("path", sorted((SOURCE / "readers").rglob("*.py")), ids=lambda path: path.stem)
def test_readers_take_no_padded_number_for_an_error(path: Path) -> None:
    """``int(text, 0)`` raises for 042, which any log may hold; abi/literal.py reads it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "int" and node.args[1:]:
            base = node.args[1]
            assert not (isinstance(base, ast.Constant) and base.value == 0), f"{path}:{node.lineno}"


def test_ci_promises_each_need() -> None:
    """A need of tests/needs.py is met in CI, or a test that has it fails; only that file asks the switches."""
    root = SOURCE.parent.parent
    ci = (root / ".ci" / "run").read_text()
    for need in get_args(Need):
        assert f"KVMWHY_REQUIRE_{need.upper()}=1" in ci
    tests = (path for path in (root / "tests").rglob("*.py") if path.name not in {"needs.py", Path(__file__).name})
    assert [path.name for path in tests if "KVMWHY_REQUIRE" in path.read_text()] == []


def test_every_room_has_a_place_on_the_road() -> None:
    """A new package is put into the table, here and in the architecture page."""
    assert {room_of(path) for path in FILES} <= set(MAY_IMPORT)
    page = (SOURCE.parent.parent / "docs" / "architecture.md").read_text()
    for room in {room_of(path) for path in FILES} - {"__main__"}:
        assert f"`{room}" in page, f"docs/architecture.md does not mention {room}"


def test_help_imports_nothing_heavy() -> None:
    """`kvmwhy --help` needs neither the decoder, nor rich, nor msgspec."""
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom kvmwhy.cli.main import kvmwhy\n"
        "assert CliRunner().invoke(kvmwhy, ['--help']).exit_code == 0\n"
        "print([m for m in ('iced_x86', 'rich', 'msgspec') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"

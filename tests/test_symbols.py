"""Names of a guest's addresses: from ELFs made by the compiler here, moved, stripped and broken."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from kvmwhy.symbols.elf import Elf, SymbolsError
from kvmwhy.symbols.placed import Placed, Window, parted
from needs import missing

SOURCE = """\
volatile int sink;
__attribute__((noinline)) int inner(int a) {
    sink += a * 3;
    return sink ^ 0x1234567;
}
__attribute__((noinline)) int outer(int b) {
    int r = inner(b + 1);
    return r + 7;
}
void _start(void) { outer(5); for (;;); }
"""
BASE = 0xFFFFFFFF81000000
MOVED = 0x2A200000  # by KASLR: a multiple of 2 MiB


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        missing("cc", "no C compiler")
    place = tmp_path_factory.mktemp("elf")
    (place / "kernel.c").write_text(SOURCE)
    command = [
        compiler,
        "-g",
        "-O1",
        "-ffreestanding",
        "-fno-pie",
        "-no-pie",
        "-mcmodel=kernel",
        "-static",
        "-nostdlib",
    ]
    command += ["-fcf-protection=none", f"-Wl,-Ttext={BASE:#x},--build-id=none", "-o", "kernel.elf", "kernel.c"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the compiler makes no such ELF: {done.stderr[:200]}")
    return place / "kernel.elf"


def line_of(text: str) -> int:
    return SOURCE.splitlines().index(text) + 1


def log(rip: int, code: bytes, at: int) -> str:
    """QEMU's dump of a failure at ``rip``, with the code around it."""
    window = [f"{byte:02x}" for byte in code.ljust(50, b"\x90")[:50]]
    window[at] = f"<{window[at]}>"
    registers = "\n".join(
        " ".join(f"{name}={0:016x}" for name in names)
        for names in (
            ("RAX", "RBX", "RCX", "RDX"),
            ("RSI", "RDI", "RBP", "RSP"),
            ("R8 ", "R9 ", "R10", "R11"),
            ("R12", "R13", "R14", "R15"),
        )
    )
    segments = "\n".join(f"{name:<3}=0010 {0:016x} ffffffff 00c09300" for name in ("ES", "SS", "DS", "FS", "GS"))
    return (
        "KVM internal error. Suberror: 1\nemulation failure\n"
        f"{registers}\nRIP={rip:016x} RFL=00010246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\n"
        f"{segments}\nCS =0008 {0:016x} ffffffff 00af9b00\nLDT=0000 {0:016x} 0000ffff 00008200\n"
        f"TR =0040 {0:016x} 00000067 00008b00\nGDT=     {0:016x} 0000007f\nIDT=     {0:016x} 00000fff\n"
        f"CR0=80050033 CR2={0:016x} CR3={0:016x} CR4=000006f0\nEFER=0000000000000d01\nCode={' '.join(window)}\n"
    )


def explained(text: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "kvmwhy", "explain", "--json", *options]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    (line,) = done.stdout.splitlines()
    answer: dict[str, Any] = json.loads(line)
    return answer


def address_of(kernel: Path, name: str) -> int:
    """Where pyelftools itself has a function."""
    with kernel.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        symbols = table.get_symbol_by_name(name)
        assert symbols is not None
        return int(symbols[0]["st_value"])


def test_function_file_and_line(kernel: Path) -> None:
    """An address in a function: its name, how far in, and the line that the compiler made it from."""
    with Elf(str(kernel)) as elf:
        inner = address_of(kernel, "inner")
        assert elf.function(inner + 2) == ("inner", 2)
        line = elf.line(inner)
        assert line is not None
        assert line.file.endswith("kernel.c")
        assert line_of("__attribute__((noinline)) int inner(int a) {") <= line.number <= line_of("}")
        assert elf.function(BASE - 1) is None
        assert elf.function(0) is None


@pytest.mark.parametrize("moved", [0, MOVED])
def test_the_offset_by_the_code(kernel: Path, moved: int) -> None:
    """The code at RIP is in the file once: that says where it runs. The log alone tells, and names come with it."""
    with Elf(str(kernel)) as elf:
        inner = address_of(kernel, "inner")
        code = elf.bytes_at(inner, 50)
    (part,) = explained(log(inner + 3 + moved, code, 3), "--symbols", str(kernel))["symbols"]
    assert part["offset"] == hex(moved)
    assert (part["rip"]["function"], part["rip"]["offset"]) == ("inner", "0x3")
    assert part["rip"]["file"].endswith("kernel.c")


def test_never_guessed(kernel: Path) -> None:
    """Other code at RIP, or none: no name, though the address is one of the file's; and the reason is said."""
    inner = address_of(kernel, "inner")
    other = bytes(range(1, 51))
    for text in (log(inner, other, 0), log(inner, b"", 0).split("Code=")[0]):
        (part,) = explained(text, "--symbols", str(kernel))["symbols"]
        assert (part["offset"], part["rip"]) == (None, None)
        assert "@OFFSET" in part["why"]


def test_an_offset_that_was_given(kernel: Path) -> None:
    """It is used, and held against the code where that is shown."""
    with Elf(str(kernel)) as elf:
        inner = address_of(kernel, "inner")
        code = elf.bytes_at(inner, 50)
    given = f"{kernel}@{MOVED:#x}"
    (right,) = explained(log(inner + MOVED, code, 0), "--symbols", given)["symbols"]
    assert right["rip"]["function"] == "inner"
    assert "is that of the file" in right["why"]
    (wrong,) = explained(log(inner + MOVED, bytes(range(1, 51)), 0), "--symbols", given)["symbols"]
    assert "is not that of the file" in wrong["why"]


def test_return_addresses(kernel: Path) -> None:
    """Of the words on a stack, those behind a call; the line is that of the call."""
    with Elf(str(kernel)) as elf:
        outer = address_of(kernel, "outer")
        code = elf.bytes_at(outer, 64)
        behind = next(outer + n + 5 for n in range(40) if code[n] == 0xE8)
        stack = struct.pack("<4Q", 7, outer, behind + MOVED, behind)
        (found,) = Placed(elf, MOVED).returns(stack, 0x7000, MOVED)
    assert (found.at, found.function.name) == (0x7010, "outer")
    assert found.line is not None
    assert found.line.number == line_of("    int r = inner(b + 1);")


def test_a_stripped_file(kernel: Path, tmp_path: Path) -> None:
    """Without symbols it is refused in a sentence; without DWARF there are names and no lines."""
    if shutil.which("strip") is None:
        pytest.skip("no strip")
    for option in ("--strip-all", "--strip-debug"):
        subprocess.run(["strip", option, "-o", tmp_path / option, kernel], check=True)
    with pytest.raises(SymbolsError, match="no symbols"):
        Elf(str(tmp_path / "--strip-all"))
    with Elf(str(tmp_path / "--strip-debug")) as elf:
        inner = address_of(kernel, "inner")
        assert elf.function(inner) == ("inner", 0)
        assert elf.line(inner) is None


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELF" + bytes(60), b"\x7fELF\x02\x01" + b"\xff" * 100]
)
def test_what_is_no_elf(tmp_path: Path, content: bytes) -> None:
    """One sentence, exit status 2."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(SymbolsError):
        Elf(str(path))
    command = [sys.executable, "-m", "kvmwhy", "explain", "--symbols", str(path), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_broken_files(kernel: Path, tmp_path: Path) -> None:
    """Bytes changed at random, and files cut off: an error in a sentence, or an address without a name."""
    whole = kernel.read_bytes()
    chance = random.Random(16)  # noqa: S311 -- the same ones each time
    path = tmp_path / "broken.elf"
    for _ in range(150):
        data = bytearray(whole[: chance.randrange(64, len(whole) + 1)] if chance.random() < 0.3 else whole)
        for _ in range(chance.randrange(1, 60)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            elf = Elf(str(path))
        except SymbolsError:
            continue
        with elf:
            for address in (BASE, BASE + 4, BASE + 0x20):
                elf.function(address)
                elf.line(address)
            Placed(elf, None).settled(BASE + 3, Window(whole[:50], 3))


def test_a_path_with_an_at() -> None:
    """An @ that no number follows is the path's own."""
    assert parted("/srv/a@b/vmlinux") == ("/srv/a@b/vmlinux", None)
    assert parted("vmlinux@0x1000") == ("vmlinux", 0x1000)
    assert parted("vmlinux@-4096") == ("vmlinux", -4096)


def test_nothing_is_imported_unless_asked() -> None:
    """Who gives no --symbols pays nothing for them."""
    code = (
        "import sys\nsys.argv = ['kvmwhy', 'explain', '-']\nfrom kvmwhy.cli.main import kvmwhy\n"
        "kvmwhy(['explain', '-'], standalone_mode=False) if False else None\nimport kvmwhy.cli.explain\n"
        "print([m for m in sys.modules if 'elftools' in m or 'symbol' in m and 'kvmwhy' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""`kvmwhy spec`: a schema that the output keeps to, and emitters whose lines kvmwhy reads as it reads the page."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvmwhy.cli.schema import explanation_schema, record_schema
from kvmwhy.diagnosis import diagnose
from kvmwhy.ingest.normalize import clean
from kvmwhy.readers import run_page
from kvmwhy.readers.kvmwhy_json import record
from kvmwhy.readers.qemu import log as qemu_log
from kvmwhy.record import Failure
from kvmwhy.render.json import to_object
from kvmwhy.testing import FAILURES

CONTRIB = Path(__file__).parents[2] / "contrib"
FIXTURES = Path(__file__).parents[1] / "fixtures"
VMM = 'a "VMM"\n'

C_PROGRAM = """#include "kvmwhy.h"
#include <stdlib.h>
int main(int argc, char **argv)
{
  static char page[4096];
  struct kvm_regs regs;
  struct kvm_sregs sregs;
  int full = argc > 2;

  memset(&regs, 0, sizeof regs);
  memset(&sregs, 0, sizeof sregs);
  regs.rip = 0x1000, regs.rbx = ~0ull, regs.rflags = 2;
  sregs.cr0 = 0x80000011, sregs.efer = 0x500, sregs.ss.dpl = sregs.cs.dpl = 3;
  sregs.cs.limit = ~0u, sregs.cs.type = 11, sregs.cs.s = sregs.cs.present = sregs.cs.l = sregs.cs.g = 1;
  if (fread(page, 1, sizeof page, stdin) != sizeof page)
    return 2;
  return kvmwhy_write(1, (struct kvm_run *)page, atoi(argv[1]), "a \\"VMM\\"\\n", 3, full ? &regs : NULL,
                      full ? &sregs : NULL) < 0;
}
"""
RUST_PROGRAM = """#[path = "kvmwhy.rs"]
mod kvmwhy;
use std::io::Read;
fn main() {
    let mut page = Vec::new();
    std::io::stdin().read_to_end(&mut page).unwrap();
    let error = std::env::args().nth(1).and_then(|s| s.parse().ok()).filter(|n| *n != 0);
    println!("{}", kvmwhy::record(&page, error, "a \\"VMM\\"\\n", 3, &[("rip", 0x1000)]));
}
"""
GO_PROGRAM = """package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"test/kvmwhy"
)

func main() {
	page, _ := io.ReadAll(os.Stdin)
	number, _ := strconv.Atoi(os.Args[1])
	fmt.Println(kvmwhy.Record(page, syscall.Errno(number), "a \\"VMM\\"\\n", 3, map[string]uint64{"rip": 0x1000}))
}
"""


def build(language: str, where: Path) -> Path:
    """The program that emits a page's line; skips where there is no compiler."""
    program = where / "emit"
    environment = dict(os.environ)
    if language.startswith("c"):
        compiler, standard = ("g++", "c++20") if language == "c++" else ("gcc", language)
        source = where / "main.c"
        source.write_text(C_PROGRAM)
        command = [compiler, f"-std={standard}", "-x", "c++" if language == "c++" else "c", "-O2", "-pedantic"]
        command += ["-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", f"-I{CONTRIB}", str(source), "-o", str(program)]
    elif language == "rust":
        (where / "main.rs").write_text(RUST_PROGRAM)
        shutil.copy(CONTRIB / "kvmwhy.rs", where)
        command = ["rustc", "-D", "warnings", "-o", str(program), str(where / "main.rs")]
    else:
        (where / "kvmwhy").mkdir()
        shutil.copy(CONTRIB / "kvmwhy.go", where / "kvmwhy")
        (where / "main.go").write_text(GO_PROGRAM)
        (where / "go.mod").write_text("module test\n\ngo 1.19\n")
        environment |= {"GOFLAGS": "-mod=mod", "GOPROXY": "off"}
        command = ["go", "build", "-o", str(program), "."]
    ask = [command[0], "version" if language == "go" else "--version"]
    # rustup puts a rustc on PATH that has no toolchain behind it until one is chosen.
    if shutil.which(command[0]) is None or subprocess.run(ask, capture_output=True, check=False).returncode:
        pytest.skip(f"no {command[0]}")
    subprocess.run(command, check=True, cwd=where, env=environment)
    return program


def pages() -> list[bytes]:
    """A page of each failure, and pages of noise with plausible exits."""
    choose, made = random.Random(5), list(FAILURES.values())  # noqa: S311 -- pages, no secrets
    for reason in (0, 1, 5, 6, 8, 9, 17, 17, 17):
        page = bytearray(choose.randbytes(4096))
        page[8:12] = reason.to_bytes(4, "little")
        made.append(bytes(page))
    return made


def raw(failure: Failure) -> tuple[object, ...]:
    names = "kind suberror ndata data hardware_error hardware_reason exception exception_error_code exit_reason"
    return tuple(getattr(failure, name) for name in names.split())


@pytest.mark.parametrize("language", ["c99", "c17", "c++", "rust", "go"])
def test_emitters_say_what_the_page_says(language: str, tmp_path: Path) -> None:
    """Each page through a VMM's emitter and back is the same record as the page itself, and keeps to the schema."""
    program = build(language, tmp_path)
    for page in pages():
        line = subprocess.run([program, "0"], input=page, capture_output=True, check=True).stdout
        item = json.loads(line)
        check(item, record_schema())
        (expected,) = run_page.read(page).failures
        found = record(item)
        assert raw(found) == raw(expected)
        assert (found.source.vmm, found.source.vcpu) == (VMM, 3)
    item = json.loads(subprocess.run([program, "14"], input=page, capture_output=True, check=True).stdout)
    assert (item["kind"], item["errno"]) == ("run-error", "EFAULT")


def test_registers_of_the_c_emitter(tmp_path: Path) -> None:
    """Registers and segments arrive as kvmwhy names them: a 64-bit CPU at CPL 3."""
    program = build("c17", tmp_path)
    page = FAILURES["emulation-failure"]
    line = subprocess.run([program, "0", "full"], input=page, capture_output=True, check=True).stdout
    item = json.loads(line)
    check(item, record_schema())
    cpu = record(item).cpu
    assert cpu is not None
    assert (cpu.registers["rip"], cpu.registers["rbx"], cpu.cpl) == (0x1000, (1 << 64) - 1, 3)
    assert cpu.segments["cs"].attributes == 0xA0FB00
    explained = diagnose(record(item)).facts
    assert explained.mode is not None
    assert explained.mode.name == "long64"


# -- the schema ------------------------------------------------------------------------------------


def check(item: Any, schema: dict[str, Any], root: dict[str, Any] | None = None, at: str = "$") -> None:
    """JSON Schema, as much of it as is used here; and no member that is not declared."""
    root = root or schema
    if "$ref" in schema:
        check(item, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root, at)
    if "anyOf" in schema:
        fitting = [one for one in schema["anyOf"] if one.get("type") != "null"]
        if item is None:
            assert {"type": "null"} in schema["anyOf"], at
        else:
            check(item, fitting[0], root, at)
        return
    kinds: dict[str, type | tuple[type, ...]] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
    }
    if kind := schema.get("type"):
        assert isinstance(item, kinds[kind]), f"{at} is {item!r}, not {kind}"
        assert kind == "boolean" or not isinstance(item, bool), at
    assert item == schema.get("const", item), at
    assert "enum" not in schema or item in schema["enum"], f"{at}: {item}"
    assert "pattern" not in schema or re.search(schema["pattern"], item), f"{at}: {item}"
    assert schema.get("minimum", 0) <= item <= schema.get("maximum", item) if isinstance(item, int) else True, at
    if isinstance(item, dict):
        assert set(schema.get("required", ())) <= item.keys(), f"{at}: {set(schema['required']) - item.keys()}"
        declared, others = schema.get("properties"), schema.get("additionalProperties")
        for name, value in item.items():
            if declared is not None and others is None:
                assert name in declared, f"{at}.{name} is not declared"
            inner = (declared or {}).get(name) or others
            if isinstance(inner, dict):
                check(value, inner, root, f"{at}.{name}")
    if isinstance(item, list) and "items" in schema:
        for n, value in enumerate(item):
            check(value, schema["items"], root, f"{at}[{n}]")


def test_what_explain_writes_keeps_to_the_schema() -> None:
    """Every fixture's log and page, every made page: all members are declared, of the declared types."""
    schema = explanation_schema()
    failures = [f for page in pages() for f in run_page.read(page).failures]
    for log in sorted(FIXTURES.glob("*/qemu.log"))[:12]:
        failures += qemu_log.read(clean(log.read_bytes()), path=str(log)).failures[:1]
    assert len(failures) > 20
    for failure in failures:
        check(json.loads(json.dumps(to_object(diagnose(failure)))), schema)


def test_the_check_can_fail() -> None:
    """A missing member, a wrong type and an undeclared one are found."""
    good = to_object(diagnose(run_page.read(FAILURES["shutdown"]).failures[0]))
    check(good, explanation_schema())
    for change in ({"kind": "explosion"}, {"data": ["17"]}, {"new": 1}, {"answer": None}):
        with pytest.raises(AssertionError):
            check({**good, **change}, explanation_schema())
    with pytest.raises(AssertionError):
        check({name: value for name, value in good.items() if name != "causes"}, explanation_schema())


@pytest.mark.parametrize("what", ["schema", "record", "c", "rust", "go"])
def test_the_command_prints_it(what: str) -> None:
    """JSON with its $schema, or the very file of contrib/."""
    out = subprocess.run([sys.executable, "-m", "kvmwhy", "spec", what], capture_output=True, text=True, check=True)
    if what in {"schema", "record"}:
        assert json.loads(out.stdout)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    else:
        assert out.stdout == (CONTRIB / {"c": "kvmwhy.h", "rust": "kvmwhy.rs", "go": "kvmwhy.go"}[what]).read_text()

"""abi.ioctl: numbers, sizes and offsets against the compiler's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from kvmwhy.abi import ioctl
from needs import missing

# Not in C under this name: our cut through an array, or through what is kept as bytes.
NOT_C = {("kvm_fpu", "rest")}


def c_program() -> tuple[str, dict[str, tuple[int, ...]]]:
    """A program that prints ``key numbers`` for whatever its header knows, and what we expect."""
    lines = ["#include <stddef.h>", "#include <stdio.h>", "#include <linux/kvm.h>", "int main(void) {"]
    expected: dict[str, tuple[int, ...]] = {}
    for structure in ioctl.STRUCTURES:
        expected[structure.name] = (structure.size,)
        lines.append(f'printf("{structure.name} %zu\\n", sizeof(struct {structure.name}));')
        for f in structure.fields:
            if (structure.name, f.name) in NOT_C or f.name.startswith("pad"):
                continue
            key, member = f"{structure.name}.{f.name}", f"((struct {structure.name} *)0)->{f.name}"
            expected[key] = (f.offset, f.size * f.length)
            lines.append(f'printf("{key} %zu %zu\\n", offsetof(struct {structure.name}, {f.name}), sizeof({member}));')
    for request in ioctl.Ioctl:
        expected[request.name] = (request.value,)
        lines.append(f'printf("{request.name} %llu\\n", (unsigned long long){request.name});')
    for name, info in ioctl.CAPABILITIES.items():
        expected[name] = (info.number,)
        lines.extend([f"#ifdef {name}", f'printf("{name} %d\\n", {name});', "#endif"])
    for bit, name in ioctl.VCPUEVENT_VALID.items():
        constant = f"KVM_VCPUEVENT_VALID_{name}"
        expected[constant] = (1 << bit,)
        lines.extend([f"#ifdef {constant}", f'printf("{constant} %d\\n", {constant});', "#endif"])
    for constant, value in {
        "KVM_API_VERSION": ioctl.API_VERSION,
        "KVM_MEM_READONLY": ioctl.MEM_READONLY,
        "KVM_MEM_LOG_DIRTY_PAGES": ioctl.MEM_LOG_DIRTY_PAGES,
        "KVM_CPUID_FLAG_SIGNIFCANT_INDEX": ioctl.CPUID_FLAG_SIGNIFICANT_INDEX,
        "KVM_MAX_XCRS": ioctl.MAX_XCRS,
    }.items():
        expected[constant] = (value,)
        lines.append(f'printf("{constant} %llu\\n", (unsigned long long){constant});')
    return "\n".join([*lines, "return 0; }", ""]), expected


def test_every_number_size_and_offset_is_the_compilers(tmp_path: Path) -> None:
    """The C compiler, with the installed <linux/kvm.h>, gives the numbers that are computed here."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler or not Path("/usr/include/linux/kvm.h").exists():
        reason = "no C compiler" if not compiler else "no <linux/kvm.h>"
        missing("live", reason)
    source, expected = c_program()
    (tmp_path / "numbers.c").write_text(source)
    subprocess.run([compiler, "-o", "numbers", "numbers.c"], cwd=tmp_path, check=True)
    out = subprocess.run([tmp_path / "numbers"], check=True, capture_output=True, text=True).stdout
    seen = {key: tuple(map(int, numbers)) for key, *numbers in (line.split() for line in out.splitlines())}
    assert {key: (numbers, expected[key]) for key, numbers in seen.items() if expected[key] != numbers} == {}
    assert len(seen) > 250, "the header told too little to call this a check"


def test_a_structure_packs_to_its_size() -> None:
    """``whole`` covers a structure from its first byte to its last, padding included."""
    for structure in ioctl.STRUCTURES:
        assert structure.whole.size == structure.size, structure.name

"""struct kvm_run: offsets against the compiler's, payloads both ways."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.abi import kvm_run
from kvmwhy.abi.cstruct import Field, Value
from kvmwhy.abi.internal_error import SUBERRORS
from kvmwhy.abi.kvm_run import EXITS, UNION, decode_page, encode_page
from needs import missing

# Fields whose names differ in C: the payload's own union, or a member that a later header added.
C_NAMES = {
    ("HYPERV", "u"): "hyperv.u",
    ("TDX", "data"): "tdx.unknown.data",
    ("TDX", "flags"): "tdx.flags",
    ("TDX", "nr"): "tdx.nr",
    ("TDX", "ret"): "tdx.unknown.ret",
}


def c_expression(name: str, member: str | None, field: Field) -> str:
    if (name, field.name) in C_NAMES:
        return C_NAMES[name, field.name]
    if name == "XEN" and field.name != "type":
        return f"xen.u.hcall.{field.name}"
    return f"{member}.{field.name}" if member else field.name


def c_program() -> tuple[str, dict[str, tuple[int, int]]]:
    """A program that prints ``key offset size`` for whatever its header knows, and what we expect."""
    lines = ["#include <stddef.h>", "#include <stdio.h>", "#include <linux/kvm.h>", "int main(void) {"]
    expected: dict[str, tuple[int, int]] = {}

    def field(key: str, expression: str, offset: int, size: int, guard: str | None = None) -> None:
        expected[key] = (offset, size)
        print_it = (
            f'printf("{key} %zu %zu\\n", offsetof(struct kvm_run, {expression}),'
            f" sizeof(((struct kvm_run *)0)->{expression}));"
        )
        lines.extend([f"#ifdef {guard}", print_it, "#endif"] if guard else [print_it])

    def number(key: str, value: int) -> None:
        expected[key] = (value, 0)
        lines.extend([f"#ifdef {key}", f'printf("{key} %llu 0\\n", (unsigned long long){key});', "#endif"])

    for f in (*kvm_run.HEAD, *kvm_run.TAIL):
        field(f"head.{f.name}", f.name, f.offset, f.size * f.length)
    for exit_ in EXITS.values():
        number(f"KVM_EXIT_{exit_.name}", exit_.number)
        for f in exit_.fields:
            key = f"{exit_.name}.{f.name}"
            expression = c_expression(exit_.name, exit_.member, f)
            field(key, expression, f.offset, f.size * f.length, f"KVM_EXIT_{exit_.name}")
    for f in kvm_run.EMULATION_FAILURE:
        field(f"emulation_failure.{f.name}", f"emulation_failure.{f.name}", f.offset, f.size * f.length)
    for member, fields in (kvm_run.VARIANTS[27, n] for n in (1, 2, 3)):
        for f in fields:
            field(f"hyperv.{member}.{f.name}", f"hyperv.u.{member}.{f.name}", f.offset, f.size * f.length)
    for value, name in SUBERRORS.items():
        constant = {3: "DELIVERY_EV"}.get(value, name)
        number(f"KVM_INTERNAL_ERROR_{constant}", value)
    number("KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES", 1)
    lines.append('printf("sizeof %zu 0\\n", sizeof(struct kvm_run)); return 0; }')
    expected["sizeof"] = (kvm_run.RUN_SIZE, 0)
    return "\n".join(lines) + "\n", expected


def test_every_offset_size_and_constant_is_the_compilers(tmp_path: Path) -> None:
    """The C compiler, with the installed <linux/kvm.h>, gives the offsets that are computed here."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler or not Path("/usr/include/linux/kvm.h").exists():
        reason = "no C compiler" if not compiler else "no <linux/kvm.h>"
        missing("cc", reason)
    source, expected = c_program()
    (tmp_path / "offsets.c").write_text(source)
    subprocess.run([compiler, "-Wall", "-o", "offsets", "offsets.c"], cwd=tmp_path, check=True)
    out = subprocess.run([tmp_path / "offsets"], check=True, capture_output=True, text=True).stdout
    seen = {k: (int(o), int(s)) for k, o, s in (line.split() for line in out.splitlines())}
    # hyperv.u is a union of 48 bytes; it is read here as six words.
    differing = {k: (v, expected[k]) for k, v in seen.items() if expected[k] != v}
    assert not differing
    assert len(seen) > 120, "the header told too little to call this a check"


def test_sizes_the_kernel_fixes_by_hand() -> None:
    """The union is 256 bytes and the largest payload fills it exactly (OSI, 32 registers)."""
    last = EXITS[18].fields[-1]
    assert last.offset + last.size * last.length == UNION + kvm_run.UNION_SIZE


@st.composite
def payloads(draw: st.DrawFn) -> tuple[int, dict[str, Value]]:
    exit_ = draw(st.sampled_from(list(EXITS.values())))
    values: dict[str, Value] = {}
    for f in exit_.fields:
        one = st.integers(0, 2 ** (8 * f.size) - 1)
        if f.length == 1:
            values[f.name] = draw(one)
        elif f.size == 1:
            values[f.name] = draw(st.binary(min_size=f.length, max_size=f.length))
        else:
            values[f.name] = draw(st.lists(one, min_size=f.length, max_size=f.length).map(tuple))
    return exit_.number, values


@given(payloads(), st.integers(0, 2**16 - 1))
def test_every_payload_survives_the_round_trip(case: tuple[int, dict[str, Value]], flags: int) -> None:
    """decode(encode(payload)) is the payload, for every KVM_EXIT_*."""
    reason, payload = case
    run = decode_page(encode_page(reason, payload, head={"flags": flags}))
    assert run.exit_reason == reason
    assert run.head["flags"] == flags
    assert {k: v for k, v in run.payload.items() if k in payload} == payload


@given(st.binary(max_size=400))
def test_any_bytes_are_a_page_or_a_named_error(page: bytes) -> None:
    """Random bytes decode, or raise the one documented error."""
    if len(page) < 288:
        with pytest.raises(kvm_run.ShortPageError, match=f"needs at least 288 bytes, here are {len(page)}"):
            decode_page(page)
    else:
        assert decode_page(page).raw == page[32:288]


def test_unknown_exit_reason_loses_nothing() -> None:
    """A reason that no release knows keeps its 256 bytes and its number."""
    page = bytearray(encode_page(17, {"suberror": 3}))
    page[8:12] = (999).to_bytes(4, "little")
    run = decode_page(bytes(page))
    assert run.name == "KVM_EXIT 999"
    assert run.payload == {}
    assert run.raw[0] == 3


def test_s390_has_its_union_sixteen_bytes_later() -> None:
    """With psw_mask and psw_addr before it, the same payload lies at 48."""
    page = encode_page(17, {"suberror": 1, "ndata": 2, "data": (7, 9)})
    moved = page[:32] + bytes(16) + page[32:-16]
    assert decode_page(moved, s390=True).payload["ndata"] == 2


def test_a_field_that_is_not_there_is_refused_by_name() -> None:
    """Building a page with a wrong field says which fields the exit has."""
    with pytest.raises(ValueError, match=r"no field 'gpa'.*hardware_entry_failure_reason, cpu"):
        encode_page(9, {"gpa": 1})
    with pytest.raises(ValueError, match="cpu is 32 bits wide"):
        encode_page(9, {"cpu": 2**32})

"""A kvm_run page is found in a core or an image by its shape, and nothing else is taken for one."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.abi.cstruct import Value
from kvmwhy.abi.kvm_run import encode_page
from kvmwhy.pipeline import records
from kvmwhy.readers import read
from kvmwhy.readers.core_dump import Scanner
from kvmwhy.readers.kvm_run_scan import is_failed_run
from kvmwhy.record import Failure
from needs import missing

FIXTURES = Path(__file__).parent.parent / "fixtures"
PAGES = [p.read_bytes() for p in sorted(FIXTURES.rglob("kvm_run.page"))]
FAILED = [page.ljust(4096, b"\0") for page in PAGES if page[8] in {1, 9, 17}]
APIC: dict[str, Value] = {"apic_base": 0xFEE00900}


def chunked(data: bytes, size: int) -> list[Failure]:
    chunks = (data[at : at + size] for at in range(0, len(data), size))
    return [record.failure for record in records(chunks, "core")]


def elf(segments: list[tuple[int, bytes]], shift: int = 0x380) -> bytes:
    """An x86-64 core as gdb writes it: segments one after the other, at no page of the file."""
    table = 64 + 56 * len(segments)
    offset = table + shift
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    body = b""
    for address, data in segments:
        head += struct.pack("<IIQQQQQQ", 1, 6, offset + len(body), address, 0, len(data), len(data), 1)
        body += data
    return head + b"\xaa" * shift + body


def test_genuine_pages_are_recognised() -> None:
    """Every captured page with a failure in it, and none of the vCPUs that only halted."""
    assert FAILED
    assert all(is_failed_run(page) for page in FAILED)
    assert not any(is_failed_run(page.ljust(4096, b"\0")) for page in PAGES if page[8] not in {0, 1, 8, 9, 17})


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9000), st.integers(0, 4095))
def test_cores_and_images_stream(size: int, shift: int) -> None:
    """Two vCPUs' pages among others, in chunks of any size, give two failures in order."""
    first, second = (encode_page(17, {"suberror": n, "ndata": 2, "data": (n, 49)}, head=APIC) for n in (1, 3))
    noise = bytes(range(256)) * 32
    body = noise + first + bytes(8192) + second + noise
    core = elf([(0x7F0000000000, b"\x01" * 4096), (0x7F0000010000, body)], shift)
    for image in (core, bytes(16) + noise[16:] + body):
        found = chunked(image, size)
        assert [(f.suberror, f.data[:2]) for f in found] == [(1, (1, 49)), (3, (3, 49))]
    assert [f.suberror for f in read(core).failures] == [1, 3]


@pytest.mark.parametrize(
    "page",
    [
        bytes(4096),
        encode_page(8),
        encode_page(0, {"hardware_exit_reason": 51}),
        encode_page(17, {"suberror": 1, "ndata": 0}),
        encode_page(17, {"suberror": 9, "ndata": 1}, head=APIC),
        encode_page(17, {"suberror": 1, "ndata": 17}, head=APIC),
        encode_page(17, {"suberror": 1, "ndata": 1}, head={"apic_base": 0x12345678}),
        encode_page(17, {"suberror": 1, "ndata": 1}, head={**APIC, "cr8": 16}),
        encode_page(9, {"hardware_entry_failure_reason": 0x123456}, head=APIC),
        encode_page(17, {"suberror": 1, "ndata": 1}, head=APIC)[:-1] + b"\1",
        encode_page(5, head=APIC),
    ],
)
def test_what_is_no_failed_vcpu(page: bytes) -> None:
    """Zeros, small numbers, an exit that is no failure, and values that KVM never writes."""
    assert not is_failed_run(page)


def test_the_text_in_a_core_is_no_evidence() -> None:
    """A VMM's memory holds the formats of what it might print."""
    text = b"KVM internal error. Suberror: 1\nextra data[0]: 0x0000000000000001\n".ljust(4096, b"\0")
    remarks: list[str] = []
    assert not list(records([elf([(0x1000, text)])], complain=remarks.append))
    assert "coredump_filter" in " ".join(remarks)


def test_this_interpreters_files_hold_no_failure() -> None:
    """Ordinary binaries: some tens of megabytes, not one page taken for a vCPU's."""
    found: list[Failure] = []
    for path in [*sorted(Path(os.__file__).parent.rglob("*.so"))[:60], Path(sys.executable)]:
        with path.open("rb") as file:
            scanner = Scanner(b"")
            while chunk := file.read(1 << 20):
                found += scanner.feed(chunk)
    assert found == []


@given(st.binary(max_size=600), st.integers(1, 300))
def test_any_core_is_read(tail: bytes, size: int) -> None:
    """Tables that lie about offsets, sizes and counts."""
    chunked(b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HH", 4, 62) + tail, size)


LIVE = """
import os, subprocess, sys
from kvmwhy.machine import Guest, InternalError, KvmMachine, Mmio
with KvmMachine() as machine:
    vcpu = Guest("long64", bytes.fromhex("d903"), regs={"rbx": 0xD0000000}).load(machine)
    exit = vcpu.run(timeout=2.0)
    assert isinstance(exit, InternalError), exit
    with open("/proc/self/coredump_filter", "w") as control:
        control.write("0x3b")
    subprocess.run(["gcore", "-o", sys.argv[1], str(os.getpid())], check=True, capture_output=True)
"""


@pytest.mark.live
def test_gcore_of_a_live_vmm(tmp_path: Path) -> None:
    """A guest fails on this host's KVM; the core that gdb makes of its VMM gives the record."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK) or not shutil.which("gcore"):
        missing("live", "no /dev/kvm that may be used, or no gcore (Debian: gdb)")
    subprocess.run([sys.executable, "-c", LIVE, str(tmp_path / "core")], check=True, timeout=120)
    (core,) = tmp_path.glob("core.*")
    with core.open("rb") as file:
        found = [record.failure for record in records(iter(lambda: file.read(1 << 20), b""))]
    assert found
    assert {(f.kind, f.suberror) for f in found} == {("internal-error", 1)}


@pytest.mark.parametrize(("order", "machine", "arch"), [("<", 183, "arm64"), (">", 22, "s390x"), ("<", 243, "riscv64")])
def test_a_core_of_another_architecture_is_named(order: str, machine: int, arch: str) -> None:
    """elf.h: e_machine. The shape of x86's page is not looked for in it."""
    ident = b"\x7fELF\x02" + (b"\x01" if order == "<" else b"\x02") + b"\x01"
    head = ident.ljust(16, b"\0") + struct.pack(f"{order}HHIQQQIHHHHHH", 4, machine, 1, 0, 64, 0, 0, 64, 56, 0, 0, 0, 0)
    evidence = read(head.ljust(4096, b"\0") + FAILED[0])
    assert evidence.failures == ()
    assert arch in evidence.damage[0]


def test_the_cores_header_names_the_architecture() -> None:
    """A page alone does not: any machine's could be zero there."""
    (failure,) = read(elf([(0x10000, FAILED[0])])).failures
    assert failure.arch == "x86"

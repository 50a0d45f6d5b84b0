"""What is handed over: it compiles without a warning, runs, and tells what it should."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dumps import HINT
from kvmwhy.abi.encode_page import ExitInfo
from kvmwhy.machine import KvmMachine
from kvmwhy.readers import read
from kvmwhy.record import Code, Event, Failure, Host
from kvmwhy.reproduce import Plan, Where, plan, reproduce
from kvmwhy.reproduce.export import ExportError, export
from kvmwhy.reproduce.export.report import WIDTH
from reproduce.circle import fail, failure_of
from reproduce.guests import paged_guests
from reproduce.test_plan import cpu, failure

FIXTURES = Path(__file__).parents[1] / "fixtures"
STRICT = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror")

FLDS = failure(b"\xd9\x03", {"rip": 0x400000, "rbx": 0x700000}, ExitInfo(0x30, 0x181))
KNOWN = failure(b"\xd9\x03", {"rip": 0x400000, "rbx": 0x700000}, ExitInfo(0x31))
HIGH = failure(
    b"\xd9\x03", {"rip": 0xFFFF_FFFF_8100_0000, "rbx": 0x7000_0000_0000}, ExitInfo(0x400, 4, 0x12_3456_7000), cpl=3
)
FETCH = Failure(kind="internal-error", suberror=1, data=(0, 0x30, 0x184, 0, 0, 0), ndata=6, cpu=cpu({"rip": 0xB0000}))
STACK = Failure(
    kind="internal-error",
    suberror=3,
    data=(0x80000B0E, 0x31, 0x182, 0xBFFF0, 3),
    ndata=5,
    cpu=cpu({"rip": 0x8000, "rsp": 0xBFFF8}, kind="prot32"),
)
ENTRY = Failure(kind="entry-failure", hardware_error=0x80000021, cpu=cpu({"rip": 0x8000}))
SHUTDOWN = Failure(kind="shutdown", cpu=cpu({"rip": 0x8000}, kind="real16"), code=Code((0x0F, 0x0B), 0))
ALL = {"flds": FLDS, "known": KNOWN, "high": HIGH, "fetch": FETCH, "stack": STACK, "entry": ENTRY, "shutdown": SHUTDOWN}


def planned(found: Failure) -> Plan:
    made = plan(found)
    assert isinstance(made, Plan)
    return made


def compile_(cc: str, source: Path, *flags: object) -> None:
    done = subprocess.run([cc, *STRICT, *map(str, flags), source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]


def build(cc: str, text: str, where: Path) -> Path:
    source = where / "reproduce.c"
    source.write_text(text)
    compile_(cc, source, "-o", where / "reproduce")
    return where / "reproduce"


@pytest.mark.parametrize("name", ALL)
def test_c_compiles_without_a_warning(cc: str, tmp_path: Path, name: str) -> None:
    """Every kind of plan is one file that needs <linux/kvm.h> and a libc."""
    build(cc, export("c", planned(ALL[name]), ALL[name]), tmp_path)


def sample() -> dict[str, Failure]:
    """Genuine logs of this project, of kinds and modes that differ."""
    found = {}
    for name in ("long64-flds", "long64-cpl3-xsave64", "prot32-fsts", "real16-flds", "real16-jump", "long64-flds-ram"):
        failures = read((FIXTURES / name / "qemu.log").read_bytes()).failures
        found[name] = failures[0]
    return found


@pytest.mark.live
@pytest.mark.parametrize("name", sample())
def test_c_agrees_with_the_machine(kvm: type[KvmMachine], cc: str, tmp_path: Path, name: str) -> None:
    """Exit status 0 where `reproduce` says reproduced, 1 where it does not; the record is printed."""
    found = sample()[name]
    with kvm() as machine:
        expected = reproduce(found, machine, where=Where("here"))
    program = build(cc, export("c", planned(found), found), tmp_path)
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == (0 if expected.status == "reproduced" else 1), done.stdout + done.stderr
    if expected.status == "reproduced":
        assert "suberror 1" in done.stdout
        assert "data[0]" in done.stdout


@pytest.mark.live
def test_c_of_a_guest_above_4_gib(kvm: type[KvmMachine], cc: str, tmp_path: Path) -> None:
    """Four-level page tables and a high address, from the log of a guest that failed here."""
    guest = next(g for g in paged_guests() if g.name.startswith("4-level/0/0x7") and g.name.endswith("/flds"))
    found = fail(guest, kvm)
    if found is None:
        pytest.skip("this KVM does not fail at FLDS above 4 GiB")
    seen = failure_of(found)
    program = build(cc, export("c", planned(seen), seen), tmp_path)
    assert subprocess.run([program], capture_output=True, check=False, timeout=20).returncode == 0


@pytest.mark.live
def test_c_says_when_it_works(kvm: type[KvmMachine], cc: str, tmp_path: Path) -> None:  # noqa: ARG001
    """An instruction that KVM does carry out: the same program ends with 1."""
    found = failure(b"\x8b\x03", {"rip": 0x400000, "rbx": 0x700000}, ExitInfo(0x30, 0x181))
    program = build(cc, export("c", planned(found), found), tmp_path)
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert "MMIO read of 4" in done.stdout


# What the generated selftest uses of the kernel's headers, with their signatures (tools/testing/selftests/kvm).
STUBS = """\
#pragma once
#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#define ARRAY_SIZE(a) ((int)(sizeof(a) / sizeof((a)[0])))
#define TEST_ASSERT(e, fmt, ...) do { if (!(e)) test_fail(fmt, ##__VA_ARGS__); } while (0)
#define TEST_REQUIRE(e) do { if (!(e)) test_fail("skip"); } while (0)
void test_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
enum vm_mem_backing_src_type { VM_MEM_SRC_ANONYMOUS };
struct kvm_vm;
struct kvm_vcpu { struct kvm_run *run; };
struct kvm_vm *vm_create_barebones(void);
struct kvm_vcpu *__vm_vcpu_add(struct kvm_vm *vm, uint32_t vcpu_id);
void kvm_vm_free(struct kvm_vm *vm);
void vm_userspace_mem_region_add(struct kvm_vm *vm, enum vm_mem_backing_src_type type, uint64_t gpa,
				uint32_t slot, uint64_t npages, uint32_t flags);
void *addr_gpa2hva(struct kvm_vm *vm, uint64_t gpa);
void vcpu_init_cpuid(struct kvm_vcpu *vcpu, const struct kvm_cpuid2 *cpuid);
const struct kvm_cpuid2 *kvm_get_supported_cpuid(void);
void vcpu_sregs_get(struct kvm_vcpu *vcpu, struct kvm_sregs *sregs);
void vcpu_sregs_set(struct kvm_vcpu *vcpu, struct kvm_sregs *sregs);
void vcpu_regs_get(struct kvm_vcpu *vcpu, struct kvm_regs *regs);
void vcpu_regs_set(struct kvm_vcpu *vcpu, struct kvm_regs *regs);
void vcpu_events_set(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *events);
void vcpu_xcrs_set(struct kvm_vcpu *vcpu, struct kvm_xcrs *xcrs);
void vcpu_run(struct kvm_vcpu *vcpu);
void vcpu_run_complete_io(struct kvm_vcpu *vcpu);
bool kvm_has_cap(long cap);
void vm_enable_cap(struct kvm_vm *vm, uint32_t cap, uint64_t arg0);
const char *exit_reason_str(unsigned int exit_reason);
"""


@pytest.mark.parametrize("name", ALL)
def test_selftest_fits_the_kernels_interfaces(cc: str, tmp_path: Path, name: str) -> None:
    """Against the signatures of kvm_util.h and processor.h: no warning, and every kind of plan."""
    for header in ("test_util.h", "kvm_util.h", "processor.h"):
        (tmp_path / header).write_text(STUBS)
    source = tmp_path / "test.c"
    source.write_text(export("selftest", planned(ALL[name]), ALL[name]))
    compile_(cc, source, "-I", tmp_path, "-c", "-o", "/dev/null")


UNIT_STUBS = """\
#pragma once
#include <stddef.h>
void setup_vm(void);
void *vmap(unsigned long long phys, size_t size);
void report_pass(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int report_summary(void);
"""


@pytest.mark.parametrize("name", ["flds", "known", "fetch"])
def test_kvm_unit_test_fits_its_library(cc: str, tmp_path: Path, name: str) -> None:
    """Against the signatures of libcflat.h and vmalloc.h."""
    for header in ("libcflat.h", "desc.h", "vm.h", "vmalloc.h"):
        (tmp_path / header).write_text(UNIT_STUBS)
    source = tmp_path / "test.c"
    source.write_text(export("kvm-unit-test", planned(ALL[name]), ALL[name]))
    compile_(cc, source, "-I", tmp_path, "-c", "-o", "/dev/null")


@pytest.mark.parametrize("name", ["high", "stack"])
def test_kvm_unit_test_says_what_it_cannot(name: str) -> None:
    """CPL 3, other modes and event delivery have no place in its environment."""
    with pytest.raises(ExportError):
        export("kvm-unit-test", planned(ALL[name]), ALL[name])


def test_report_is_a_mail() -> None:
    """At most 75 columns before the program; host, failure, instruction, and the end of the trace are in it."""
    trace = tuple(Event(name="kvm_exit", time=1.0 + n, fields={"rip": n, "info": "x"}) for n in range(30))
    found = Failure(
        **{name: getattr(FLDS, name) for name in FLDS.__struct_fields__ if name not in {"host", "trace"}},
        host=Host(kernel="6.1.0\x1b[31m-evil*/", qemu="8.2"),
        trace=trace,
    )
    text = export("report", planned(found), found)
    mail, _, program = text.partition("--- >8 ---")
    assert all(len(row) <= WIDTH for row in mail.splitlines())
    for expected in ("suberror 1", "d9 03", "6.1.0", "QEMU 8.2", "kvm_exit", "Subject:"):
        assert expected in mail
    assert "\x1b" not in text
    assert mail.count("kvm_exit") == 20
    assert program.startswith(" reproduce.c")


def test_nothing_of_a_log_ends_a_comment(tmp_path: Path, cc: str) -> None:
    """A log's words pass a filter before they get into a source file."""
    log = (FIXTURES / "long64-flds" / "qemu.log").read_text() + HINT + "host kernel */ int main; /*\n"
    (found,) = read(log.encode()).failures
    build(cc, export("c", planned(found), found), tmp_path)

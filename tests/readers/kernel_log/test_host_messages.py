"""What stands beside a failure in the host's log, whose line it is, and what a hostile log can do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asking import asked
from kvmwhy.ingest.normalize import Text, clean
from kvmwhy.readers import kernel_log, read
from kvmwhy.readers.kernel_log.host_events import events_of
from kvmwhy.record import HostEvent
from kvmwhy.render.safe import safe

UNEXPECTED = "[ 9.0] kvm [4711]: vcpu0, guest rIP: 0xfff0 vmx: unexpected exit reason 0x33"

# Lines as kernels print them (vmx.c, vmx_ops.h, x86.c, sev.c, tdx.c, bus_lock.c, oom_kill.c, watchdog.c, mce, iommu
# …), and what each is.
LINES: list[tuple[str, str, dict[str, int | str]]] = [
    (
        "kvm [11]: vcpu0, guest rIP: 0xffffffff8105 unhandled rdmsr: 0x611",
        "msr-unhandled",
        {"access": "read", "msr": 0x611, "pid": 11, "vcpu": 0, "rip": 0xFFFFFFFF8105},
    ),
    ("kvm [11]: ignored rdmsr: 0x122 data 0x0", "msr-ignored", {"access": "read", "msr": 0x122, "value": 0}),
    ("kvm: vcpu1, guest rIP: 0x1 Unhandled RDMSR(0xc0011029)", "msr-unhandled", {"msr": 0xC0011029, "vcpu": 1}),
    (
        "kvm [11]: vcpu2, guest rIP: 0x1 disabled perfctr wrmsr: 0xc2 data 0xffff",
        "msr-ignored",
        {"access": "write", "msr": 0xC2, "value": 0xFFFF},
    ),
    ("kvm: vcpu1, guest rIP: 0x1 Unhandled WRMSR(0x8b) = 0x0", "msr-unhandled", {"access": "write", "msr": 0x8B}),
    ("kvm: emulating exchange as write", "exchange-as-write", {}),
    ("WARNING: kvm: emulating exchange as write#012", "exchange-as-write", {}),
    ("kvm: MONITOR instruction emulated as NOP!", "instruction-as-nop", {"instruction": "MONITOR"}),
    ("kvm: vmread failed: field=4402", "vmread-failed", {"field": 0x4402}),
    (
        "kvm_intel: vmwrite failed: field=6802 val=80050033 err=12",
        "vmwrite-failed",
        {"field": 0x6802, "value": 0x80050033, "error": 12},
    ),
    ("vmwrite error: reg 6820 value 46 (err 70)", "vmwrite-failed", {"field": 0x6820, "value": 0x46, "error": 70}),
    ("kvm: vmclear fail: ffff88810000/100000", "vmclear-failed", {"address": 0x100000}),
    ("kvm: vmptrld           (null)/778000000000 failed", "vmptrld-failed", {"address": 0x778000000000}),
    ("KVM: accessing unsupported EVMCS field 2032", "evmcs-field", {"field": 0x2032}),
    ("kvm: disabled by bios", "virtualization-off", {}),
    ("x86/cpu: VMX (outside TXT) disabled by BIOS", "virtualization-off", {"where": "outside"}),
    ("ept_misconfig_inspect_spte: spte 0x84c236107 level 4", "spte", {"spte": 0x84C236107, "level": 4}),
    (
        "kvm: get_mmio_spte: reserved bits set on MMU-present spte, addr 0xb80a0, hierarchy:",
        "spte-reserved-bits",
        {"gpa": 0xB80A0},
    ),
    (
        "WARNING: CPU: 3 PID: 99 at arch/x86/kvm/vmx/vmx.c:5233 handle_ept",
        "warning",
        {"path": "arch/x86/kvm/vmx/vmx.c", "line": 5233, "cpu": 3, "pid": 99},
    ),
    (
        "WARNING: arch/x86/kvm/x86.c:42 at kvm_arch_x+0x1/0x2 [kvm], CPU#3: qemu/99",
        "warning",
        {"path": "arch/x86/kvm/x86.c", "line": 42, "comm": "qemu"},
    ),
    ("kernel BUG at arch/x86/kvm/x86.c:12!", "kernel-bug", {"path": "arch/x86/kvm/x86.c", "line": 12}),
    ("kernel BUG at mm/slub.c:379!", "kernel-bug", {"path": "mm/slub.c"}),
    ("Oops: 0000 [#1] SMP NOPTI", "oops", {"error": 0, "number": 1}),
    ("int3: 0000 [#1] SMP", "oops", {"what": "int3"}),
    (
        "BUG: kernel NULL pointer dereference, address: 0000000000000088",
        "oops",
        {"what": "NULL pointer", "address": "0000000000000088"},
    ),
    (
        "general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#2] SMP",
        "oops",
        {"what": "general protection fault", "number": 2},
    ),
    ("mce: [Hardware Error]: CPU 4: Machine Check: 0 Bank 5: be00", "machine-check", {"cpu": 4, "status": 0xBE00}),
    ("EDAC MC0: 1 UE memory read error on CPU_SrcID#0", "memory-error", {"severity": "uncorrected"}),
    ("watchdog: BUG: soft lockup - CPU#7 stuck for 22s! [CPU 0/KVM:4711]", "soft-lockup", {"cpu": 7, "seconds": 22}),
    (
        "x86/split lock detection: #AC: CPU 0/KVM/88279 took a split_lock trap at address: 0xfffff801",
        "split-lock",
        {"address": 0xFFFFF801, "comm": "CPU 0/KVM"},
    ),
    ("Out of memory: Killed process 4711 (qemu-system-x86) total-vm:9kB", "oom-kill", {"comm": "qemu-system-x86"}),
    ("kvm: exiting hardware virtualization", "virtualization-given-up", {}),
    ("INFO: task CPU 2/KVM:4711 blocked for more than 120 seconds.", "hung-task", {"seconds": 120}),
    ("rcu: INFO: rcu_sched self-detected stall on CPU", "rcu-stall", {"flavour": "rcu_sched"}),
    ("SEAMCALL (0x000000000000000f) failed: 0xc0000b0800000001", "seamcall-failed", {"status": 0xC0000B0800000001}),
    (
        "virt/tdx: SEAMCALL (0x0000000000000022) failed: 0xc000050500000000",
        "seamcall-failed",
        {"leaf": 0x22, "status": 0xC000050500000000},
    ),
    ("ccp 0000:06:00.2: SEV: failed to INIT error 0x8004", "sev-init-failed", {"firmware_error": 0x8004}),
    ("ccp 0000:06:00.2: SEV-SNP: failed to INIT error 0x3", "sev-init-failed", {"firmware_error": 3}),
    ("gvt: guest page write error, gpa 1a2b3c000", "gvt-page-tables", {"gpa": 0x1A2B3C000}),
    (
        "gvt: vgpu 1: fail: shadow page 000000005f5a0700 guest entry 0x5f6 type 9.",
        "gvt-page-tables",
        {"vgpu": 1, "entry": 0x5F6, "type": 9},
    ),
    ("SEV-SNP: RMPUPDATE failed for PFN 1234, pg_level: 1, ret: 3", "rmp-update-failed", {"pfn": 0x1234, "error": 3}),
    ("kvm_amd: SEV: Unexpected RMP fault for non-private GPA 0x1000", "rmp-fault", {"gpa": 0x1000}),
    (
        "vfio-pci 0000:01:00.0: vfio_pci_mmap_huge_fault(,order = 0) BAR 1 page offset 0x3798: 0x1",
        "vfio-bar-fault",
        {"bar": 1, "offset": 0x3798, "result": 1},
    ),
    (
        "vfio-pci 0000:84:00.0: not ready 65535ms after bus reset; giving up",
        "device-reset-failed",
        {"milliseconds": 65535, "reset": "bus reset"},
    ),
    (
        "DMAR: [DMA Read NO_PASID] Request device [03:00.0] fault addr 0x7f000 [fault reason 0x06] PTE",
        "iommu-fault",
        {"device": "03:00.0", "address": 0x7F000, "reason": 6},
    ),
    (
        "vfio-pci 0000:03:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000e address=0xfee0 flags=0x0000]",
        "iommu-fault",
        {"domain": 0xE, "address": 0xFEE0},
    ),
    (
        "kvm [105]: Data abort outside memslots with no valid syndrome info",
        "access-without-syndrome",
        {"pid": 105},
    ),
    ("kvm [9]: load/store instruction decoding not implemented", "access-without-syndrome", {"pid": 9}),
    ("kvm [1]: HYP mode not available", "no-virtualization", {}),
    ("kvm [3]: Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061", "abort-not-handled", {"fsc": 0x21}),
    ("KVM: Got unsupported MMU fault", "ppc-memory-fault", {}),
    ("Couldn't emulate instruction 0x00000700 (op 0 xop 896)", "ppc-emulation-failed", {"instruction": 0x700}),
    ("kvm: unhandled validity intercept 0x1022", "s390-validity", {"code": 0x1022}),
]


def only(text: str) -> HostEvent:
    (place,) = events_of(text)
    return place.event


@pytest.mark.parametrize(("line", "kind", "fields"), LINES, ids=lambda value: str(value)[:40])
def test_a_line_of_the_host_is_an_event(line: str, kind: str, fields: dict[str, int | str]) -> None:
    """The slug, the values that it prints, the line and the time."""
    event = only(f"\n[    8.900000] {line}\n")
    assert event.kind == kind
    assert fields.items() <= event.fields.items()
    assert (event.at.line, event.time) == (2, 8.9)


@pytest.mark.parametrize("line", [line for line, _, _ in LINES])
def test_what_is_read_of_a_line_alone_is_looked_for(line: str) -> None:
    """What makes a record has a mark of the reader's in it."""
    text = f"[    8.900000] {line}\n"
    assert asked(text, "kernel_log") or not kernel_log.read(Text(text)).failures


@pytest.mark.parametrize("comm", ["qemu-system-x86", "CPU 0/KVM", "kvm"])
def test_a_report_cut_above_its_process_is_looked_for(comm: str) -> None:
    """The name of a VMM is what tells whose oops it is."""
    text = f"[ 5.1] Oops: 0000 [#1] SMP PTI\n[ 5.1] CPU: 3 PID: 2445 Comm: {comm} Not tainted 5.4.24 #17\n"
    assert [f.kind for f in read(text.encode()).failures] == ["host-trouble"]


@pytest.mark.parametrize(("line", "kind", "fields"), LINES, ids=lambda value: str(value)[:40])
def test_an_event_stands_beside_the_failure(line: str, kind: str, fields: dict[str, int | str]) -> None:
    """What the kernel said in the same moment then stands with the failure."""
    (failure,) = kernel_log.read(Text(f"[ 8.9] {line}\n{UNEXPECTED}\n")).failures
    event = failure.host.events[0]
    assert event.kind == kind
    assert fields.items() <= event.fields.items()


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "<4>",
        "[   12.345678] ",
        "[   12.345678][ T1234] ",
        "[Mon Jan  2 03:04:05 2026] ",
        "[  +0.000274] ",
        "Jan  2 03:04:05 pve1 kernel: ",
        "Jan  2 03:04:05 pve1 kernel: [   12.345678] ",
        "2026-01-02T03:04:05.123456+00:00 pve1 kernel: ",
        "> ",
        "> > [   12.345678] ",
    ],
)
def test_what_carried_the_line_does_not_matter(prefix: str) -> None:
    """dmesg in its three ways, a serial console, syslog, the journal, mail."""
    assert only(f"{prefix}kvm_intel: vmread failed: field=4402\n").fields == {"field": 0x4402}


@pytest.mark.parametrize(
    "line",
    [
        "the log then says kvm: vmread failed: field=4402, which is odd",
        "we saw reserved bits set on the spte",
        "my-program: general protection fault, probably for non-canonical address",
        "traps: udevadm[1793] general protection fault ip:5b7096abf3da sp:7ffcb15d63e0 error:0 in udevadm",
        "printf: kernel BUG at foo.c:1!",
        "(XEN) [526158.3] domain_crash called from vmx.c",
        "## BUG: unable to handle everything",
    ],
)
def test_what_only_looks_like_a_line_of_the_kernel_is_none(line: str) -> None:
    """A sentence, a heading, a program's own message."""
    assert events_of(line + "\n") == ()


def test_an_oops_of_the_guest_is_not_the_hosts() -> None:
    """QEMU's log holds the guest's console: an oops of a virtual machine's kernel says nothing about the host."""
    console = (
        "[    2.100000] BUG: kernel NULL pointer dereference, address: 0000000000000008\n"
        "[    2.100001] Oops: 0000 [#1] SMP\n"
        "[    2.100002] CPU: 0 PID: 1 Comm: swapper/0 Not tainted 6.1.0 #1\n"
        "[    2.100003] Hardware name: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.2 04/01/2014\n"
        "[    2.100004] RIP: 0010:ext4_fill_super+0x1/0x2\n"
    )
    assert events_of(console) == ()
    failures = read((console + "KVM internal error. Suberror: 1\nemulation failure\n").encode()).failures
    assert [failure.host.events for failure in failures] == [()]


def test_an_oops_in_kvm_is_the_hosts_wherever_it_stands() -> None:
    """A trace through KVM, or a VMM's thread, names the host; 5.18-rc6's oops in mmu_free_root_page beside QEMU's
    error."""
    text = (
        "KVM: entry failed, hardware error 0x80000021\n\n"
        "[  123.456789] BUG: unable to handle page fault for address: ffd43f00063049e8\n"
        "[  123.456789] #PF: supervisor read access in kernel mode\n"
        "[  123.456789] CPU: 164 PID: 1826 Comm: qemu-system-x86 Tainted: G        W         5.18.0-rc6+ #82\n"
        "[  123.456789] RIP: 0010:mmu_free_root_page+0x3c/0x90 [kvm]\n"
    )
    event = only(text)
    assert (event.kind, event.fields["function"], event.fields["module"]) == ("oops", "mmu_free_root_page", "kvm")
    assert (event.fields["comm"], event.fields["kernel"]) == ("qemu-system-x86", "5.18.0-rc6+")
    assert "owner" not in event.fields


def test_a_warning_beside_a_vmms_output_may_be_anybodys() -> None:
    """Nothing tells whose kernel warned: the event says so, and makes no record."""
    event = only(
        "error: kvm run failed Bad address\n[  1.0] WARNING: CPU: 1 PID: 2 at mm/page_counter.c:57 f+0x1/0x2\n"
    )
    assert event.fields["owner"] == "unclear"


def test_what_is_long_ago_is_not_beside_it() -> None:
    """At most two seconds before, a tenth behind; a refusal when a module was loaded holds until the next start."""
    text = (
        "[  1.0] kvm_amd: SEV-SNP disabled (ASIDs 1 - 99)\n"
        "[  6.9] kvm [11]: ignored rdmsr: 0x122 data 0x0\n"
        "[  7.1] kvm: emulating exchange as write\n"
        f"{UNEXPECTED}\n"
        "[  9.05] kvm_intel: vmread failed: field=4402\n"
        "[  9.5] kvm: exiting hardware virtualization\n"
    )
    (failure,) = kernel_log.read(Text(text)).failures
    kinds = [event.kind for event in failure.host.events]
    assert kinds == ["sev-enabled", "exchange-as-write", "unexpected-exit", "vmread-failed"]


def test_without_a_clock_only_the_same_block_counts() -> None:
    """A log of weeks has lines that have nothing to do with this failure."""
    line = UNEXPECTED.removeprefix("[ 9.0] ")
    far = "kvm [11]: ignored rdmsr: 0x122\n" + "systemd[1]: Started.\n" * 1000
    (failure,) = kernel_log.read(Text(f"{far}kvm: emulating exchange as write\n{line}\n")).failures
    assert [event.kind for event in failure.host.events] == ["exchange-as-write", "unexpected-exit"]


def test_a_message_of_several_lines_is_one_event() -> None:
    """arm64 names the register in a second line; riscv64's exit takes three; a mailer folds the first."""
    text = (
        "> [  151.796544] kvm [7617]: Unsupported guest sys_reg access at:\n> 23f425fd0 [80000209]\n"
        "> [  151.796544]  { Op0( 3), Op1( 3), CRn(14), CRm( 3), Op2( 1), func_write },\n"
    )
    fields = only(text).fields
    assert {"op0": 3, "op1": 3, "crn": 14, "crm": 3, "op2": 1, "access": "write"}.items() <= fields.items()
    assert (fields["pc"], fields["pstate"]) == (0x23F425FD0, 0x80000209)
    text = (
        "[ 6.8] kvm [129]: VCPU exit error -95\n"
        "[ 6.8] kvm [129]: SEPC=0x80001000 SSTATUS=0x200004520 HSTATUS=0x2002001c0\n"
        "[ 6.8] kvm [129]: SCAUSE=0x15 STVAL=0xd000001 HTVAL=0x3400000 HTINST=0x0\n"
    )
    fields = only(text).fields
    assert (fields["error"], fields["scause"], fields["htval"]) == (-95, 0x15, 0x3400000)
    text = "[ 1.0] SEAMCALL (0x22) failed: 0xc000\n[ 1.0] virt/tdx: RCX 0x1 RDX 0x2 R08 0x3\n"
    assert only(text).fields["rdx"] == 2


def test_a_misconfigured_ept_is_an_unknown_exit() -> None:
    """Kernels up to 4.x gave it to userspace as KVM_EXIT_UNKNOWN with reason 49, and logged the entries."""
    text = (
        "kernel: EPT: Misconfiguration.\nkernel: EPT: GPA: 0x108ba4538\n"
        "kernel: ept_misconfig_inspect_spte: spte 0x1028125d77 level 1\n"
    )
    (failure,) = kernel_log.read(Text(text)).failures
    assert (failure.kind, failure.hardware_reason) == ("unknown-exit", 49)
    misconfig, spte = failure.host.events
    assert misconfig.fields["gpa"] == 0x108BA4538
    assert spte.fields == {"spte": 0x1028125D77, "level": 1}


def test_an_exit_without_handler_names_vcpu_and_release() -> None:
    """The line alone is a failure. It prints no suberror, and none is made up; the log's first line names the
    kernel."""
    text = f"[ 0.0] Linux version 6.6.12-x (gcc) #1\n{UNEXPECTED}\n[ 9.1] set kvm_intel.dump_invalid_vmcs=1 to dump\n"
    (failure,) = kernel_log.read(Text(text)).failures
    assert (failure.kind, failure.suberror, failure.data) == ("internal-error", None, ())
    assert (failure.source.vcpu, failure.source.line) == (0, 2)
    assert failure.exit
    assert (failure.exit.reason, failure.exit.isa) == (0x33, "vmx")
    assert failure.host.kernel == "6.6.12-x"


@pytest.mark.parametrize(
    ("line", "kind", "arch"),
    [
        ("kvm_intel: vmwrite failed: field=6802 val=80050033 err=12", "host-trouble", "x86"),
        ("SEAMCALL (0x000000000000000f) failed: 0xc0000b0800000001", "host-trouble", "x86"),
        ("kvm [9]: Unsupported guest sys_reg access at: ffff800080 [000000c5]", "undef-injected", "arm64"),
        ("kvm [9]: vcpu0, guest rIP: 0x1 unhandled wrmsr: 0x10a2b30 data 0x1", "undef-injected", "x86"),
        ("kvm: emulating exchange as write", "host-trouble", "x86"),
        ("kvm [129]: VCPU exit error -95", "host-trouble", "riscv64"),
        ("Couldn't emulate instruction 0x00000700 (op 0 xop 896)", "undef-injected", "ppc64"),
        ("Out of memory: Killed process 4711 (qemu-system-x86) total-vm:9kB", "host-trouble", None),
    ],
)
def test_a_log_without_a_failure_tells_of_the_hosts_trouble(line: str, kind: str, arch: str | None) -> None:
    """One record, with the events, and nothing about any vCPU; the architecture where only one's KVM prints it."""
    (failure,) = read(f"[ 1.0] {line}\n".encode()).failures
    assert (failure.kind, failure.cpu, failure.exit, failure.hardware_error) == (kind, None, None, None)
    assert failure.arch == arch
    assert failure.host.events


@pytest.mark.parametrize(
    "line",
    [
        "BUG: Bad page state in process ksmd  pfn:404740a",
        "EXT4-fs error (device sda1): ext4_lookup:1: inode #2",
        "Oops: 0000 [#1] SMP NOPTI",
        "kvm_amd: Nested Virtualization enabled",
    ],
)
def test_what_does_not_concern_kvm_is_no_record(line: str) -> None:
    """Any kernel has troubles; a module that says what it can do has none."""
    assert read(f"[    1.000000] {line}\n".encode()).failures == ()


DUMP = "error: kvm run failed Bad address\nRAX=0000000000000000 RBX=0000000000000001 RCX=0 RDX=0\n"


@pytest.mark.parametrize(
    "text",
    [
        f"{DUMP}[ 9.1] BUG: Bad page state in process ksmd  pfn:404740a\n",
        f"[ 9.1] BUG: Bad page state in process ksmd  pfn:404740a\n{DUMP}",
        (
            "Jan  2 03:04:05 pve1 QEMU[4861]: error: kvm run failed Bad address\n"
            "Jan  2 03:04:05 pve1 kernel: BUG: Bad page state in process ksmd  pfn:404740a\n"
        ),
    ],
)
def test_what_the_host_logs_beside_a_vmms_failure_is_with_it(text: str) -> None:
    """Before or behind, in one stream or in two of a journal; the host's trouble is no failure of its own then."""
    (failure,) = read(text.encode()).failures
    assert failure.kind == "run-error"
    (event,) = failure.host.events
    assert event.kind == "page-state-bad"
    lines = text.splitlines()
    assert "Bad page state" in lines[(event.at.line or 0) - 1]


def test_what_the_host_logs_elsewhere_is_not_with_it() -> None:
    """A hundred lines away; but a refusal at the module's start is."""
    text = (
        "[ 1.0] kvm_amd: SEV-ES disabled (ASIDs 0 - 0)\n[ 1.1] ccp 0000:06:00.2: SEV: failed to INIT error 0x8004\n"
        "[ 2.0] BUG: Bad page state in process ksmd  pfn:404740a\n" + "systemd[1]: Started.\n" * 100 + DUMP
    )
    (failure,) = [failure for failure in read(text.encode()).failures if failure.kind == "run-error"]
    assert [event.kind for event in failure.host.events] == ["sev-enabled", "sev-init-failed"]


def test_the_clock_and_the_writer_that_a_collector_had_taken_off_count() -> None:
    """dmesg's stamps are taken off before a text is read: events have their time still, and old ones are left out."""
    text = (
        "[   10.000000] kvm [11]: ignored rdmsr: 0x122 data 0x0\n"
        "[  100.000000][ T11] kvm: emulating exchange as write\n"
        "[  100.500000] kvm [4711]: vcpu0, guest rIP: 0xfff0 vmx: unexpected exit reason 0x33\n"
    )
    (failure,) = read(text.encode()).failures
    assert [(event.kind, event.time) for event in failure.host.events] == [
        ("exchange-as-write", 100.0),
        ("unexpected-exit", 100.5),
    ]


def test_a_kernels_line_that_a_vmm_wrote_is_its_guests() -> None:
    """In a journal the guest's console has QEMU's name before it, and the host's kernel its own."""
    oops = "BUG: Bad page state in process ksmd  pfn:404740a"
    journal = "Jan  2 03:04:05 pve1 {}: " + oops + "\nJan  2 03:04:05 pve1 QEMU[7]: error: kvm run failed Bad address\n"
    (guests,) = read(journal.format("QEMU[7]").encode()).failures
    assert guests.host.events == ()
    (hosts,) = read(journal.format("kernel").encode()).failures
    assert [(event.kind, event.fields.get("owner")) for event in hosts.host.events] == [("page-state-bad", None)]


TOKENS = (
    *(line for line, _, _ in LINES),
    UNEXPECTED,
    "VMCS 00000000fc71b951, last attempted VM-entry on CPU 3",
    "SVM vCPU0 VMCB 00000000fc71b951, last attempted VMRUN on CPU 3",
    "*** Guest State ***",
    "*** Host State ***",
    "*** Control State ***",
    "VMCB Control Area:",
    "VMCB State Save Area:",
    "CS:   sel=0x0018, attr=0x0e09b, limit=0xffffffff, base=0x0000000000000000",
    "cs:   s: 0018 a: 0e9b l: ffffffff b: 0000000000000000",
    "        reason=80000021 qualification=0000000000000000",
    "exit_code:          ffffffff",
    "asid:               -99999999999999999999",
    "intercepts:         " + "f" * 300,
    "GDTR:" + " " * 5000 + "limit=0x",
    "MSR guest autoload:",
    "  0: msr=0xc0000080 value=0x0000000000000500",
    "WARNING: " * 40,
    "CPU: 1 PID: 2 Comm: " + "A " * 400,
    "[  1.0][ T1] ",
    "[ 99999999999999.9]",
    "\x1b[31m",
    "\n",
    "\n" * 20,
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.sampled_from(TOKENS), st.text(max_size=30)), max_size=60))
def test_nothing_raises(tokens: list[str]) -> None:
    """Any order of pieces of real lines, with anything between them."""
    for failure in kernel_log.read(clean("\n".join(tokens).encode(errors="replace"))).failures:
        for sentence in failure.damage:
            assert safe(sentence) == sentence
        assert len(failure.host.events) <= 32


@pytest.mark.usefixtures("no_hang")
@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:30])
def test_much_of_one_thing_ends(token: str) -> None:
    """A log of one token only: quadratic work would not end in time."""
    text = (token + "\n") * (120_000 // (len(token) + 1))
    kernel_log.read(Text(text))
    kernel_log.read(Text(text.replace("\n", "")))


def test_a_message_in_code_quotes_is_read_also_at_a_lines_end() -> None:
    """Markdown's quotes are no program's; a C string at a line's end is source."""
    message = "SEV-SNP: failed to INIT error 0x3"
    assert only(f"ccp shows that\n`{message}`\n").kind == "sev-init-failed"
    assert only(f"the log says `{message}` and goes on\n").kind == "sev-init-failed"
    assert not events_of(f'\tdev_err(sev->dev,\n\t\t"{message}",\n')

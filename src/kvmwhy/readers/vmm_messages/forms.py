# ruff: noqa: E501  one format string is one line, as in its source
"""The table: what each VMM prints when KVM_RUN ends badly, after the format strings of its own source.

One row is one format string. Placeholders are those of ``templates``; their names are the facts they show. ``exit`` is
KVM_EXIT_* where the form alone says it. ``source`` is repository: file, with the years or versions that print it.
A row that is missing here is usually read by ``tolerant``; a row adds the VMM's name and the exact meaning of numbers.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Final

from kvmwhy.readers.vmm_messages.names import LOG_LINES
from kvmwhy.readers.vmm_messages.templates import compile_template, example, longest_literal


class Form:
    """A format string of a VMM."""

    def __init__(
        self,
        vmm: str | None,
        form: str,
        source: str,
        *,
        exit_reason: int | None = None,
        errno: str | None = None,
        ends: bool = False,
        after: str | None = None,
    ) -> None:
        self.vmm = vmm  # None: several programs print it
        self.form = form
        self.source = source
        self.exit_reason = exit_reason
        self.errno = errno
        self.ends = ends or after is not None  # nothing may follow on the line
        self.after = after  # the line is this alone, and the line before holds that

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        pattern = compile_template(self.form)
        return re.compile(pattern.pattern + r"[ \t.!)\]]{0,4}$", re.MULTILINE) if self.ends else pattern

    @property
    def example(self) -> str:
        """A line as this form prints it, with what stands before it in the VMM's log."""
        return LOG_LINES.get(self.vmm or "", "") + example(self.form)

    @cached_property
    def key(self) -> str:
        """A text that every line of this form holds, runs of spaces taken as one."""
        return longest_literal(self.form)


_FIRECRACKER: Final = "firecracker: src/vmm/src/vstate/vcpu.rs"
_X86: Final = "firecracker: src/vmm/src/arch/x86_64/vcpu.rs"
_CH: Final = "cloud-hypervisor: hypervisor/src/kvm/mod.rs"
_CROSVM: Final = "crosvm: src/crosvm/sys/linux/vcpu.rs"
_LIBKRUN: Final = "libkrun: src/vmm/src/linux/vstate.rs"
_DRAGONBALL: Final = "kata-containers: src/dragonball/src/vcpu/vcpu_impl.rs"
_STRATOVIRT: Final = "stratovirt: hypervisor/src/kvm/mod.rs"
_UHYVE: Final = "uhyve: src/linux/x86_64/kvm_cpu.rs"
_SOLO5: Final = "solo5: tenders/hvt/hvt_kvm_x86_64.c, ukvm/ukvm_hv_kvm.c"
_DOSEMU: Final = "dosemu2: src/base/emu-i386/kvm.c"
_GVISOR: Final = "gvisor: pkg/sentry/platform/kvm/bluepill_unsafe.go"
_KM: Final = "km: km/km_vcpu_run.c"
_GEM5: Final = "gem5: src/cpu/kvm/base.cc"
_DCDIAG: Final = "opendcdiag: framework/sysdeps/linux/kvm.c"
_SELFTEST: Final = "linux: tools/testing/selftests/kvm"
_NANVIX: Final = "nanvix: src/uservm/src/vmm/microvm/kvm/vcpu/mod.rs"
_TINYKVM: Final = "tinykvm: lib/tinykvm/vcpu_run.cpp, machine_vcpu.cpp"
_REFERENCE: Final = "vmm-reference: src/vm-vcpu/src/vcpu/mod.rs"
_LWN: Final = "LWN 658511, Using the KVM API: kvmtest.c, and programs made after it"

FORMS: Final = (
    # Firecracker. "on cpu" is kvm_run.fail_entry.cpu, the host's CPU.
    Form("firecracker", "Received KVM_EXIT_FAIL_ENTRY signal: {hardware_error} on cpu {host_cpu:d}", f"{_FIRECRACKER}, since 1.0", exit_reason=9),
    Form("firecracker", "Received KVM_EXIT_FAIL_ENTRY signal with reason: {hardware_error}", "a fork of firecracker: src/vmm/src/vstate.rs", exit_reason=9),
    Form("firecracker", "Received KVM_EXIT_INTERNAL_ERROR signal with suberror: {suberror}", "a fork of firecracker: src/vmm/src/vstate.rs", exit_reason=17),
    Form("firecracker", "Received ENOSYS error because KVM failed to emulate an instruction", f"{_FIRECRACKER}, since 1.0", errno="ENOSYS"),
    Form("firecracker", "Received KVM_SYSTEM_EVENT signal type: {event}, flag: ", _FIRECRACKER, exit_reason=24),
    Form("firecracker", "Received error signaling kvm exit: {debug}", f"{_FIRECRACKER}: VcpuError::FaultyKvmExit"),
    Form("firecracker", "Unexpected kvm exit received: {debug}", f"{_FIRECRACKER}: VcpuError::UnhandledKvmExit"),
    # Shared by Firecracker and its descendants: libkrun, Dragonball, cloud-hypervisor.
    Form(None, "Received KVM_EXIT_FAIL_ENTRY signal: reason={hardware_error}, vcpu={host_cpu:d}", f"{_LIBKRUN}: its vcpu is fail_entry.cpu", exit_reason=9),
    Form("dragonball", "Received KVM_EXIT_FAIL_ENTRY signal, reason {hardware_error}, cpu number {host_cpu:d}", _DRAGONBALL, exit_reason=9),
    Form(None, "Received KVM_EXIT_FAIL_ENTRY signal", f"{_FIRECRACKER}, until 0.25, and its forks", exit_reason=9),
    Form(None, "Received KVM_EXIT_INTERNAL_ERROR signal", f"{_FIRECRACKER}; {_LIBKRUN}; {_DRAGONBALL}", exit_reason=17),
    Form(None, "Received KVM_EXIT_SHUTDOWN signal", f"{_FIRECRACKER}, until 1.0; {_LIBKRUN}; {_DRAGONBALL}", exit_reason=8),
    Form(None, "Unexpected exit reason on vcpu run: {debug}", f"{_X86}; {_CH}; {_LIBKRUN}; {_DRAGONBALL}"),
    Form(None, "Failure during vcpu run: {errno}", f"{_FIRECRACKER}; {_LIBKRUN}; {_DRAGONBALL}"),
    Form("libkrun", "KVM_EXIT_MEMORY_FAULT: Unknown flag {flags}", _LIBKRUN, exit_reason=39),
    Form("libkrun", "Unsupported KVM_EXIT_HYPERCALL", _LIBKRUN, exit_reason=3),
    # Cloud Hypervisor
    Form("cloud-hypervisor", "VCPU error {errno}", f"{_CH}, since 0.9"),
    Form("cloud-hypervisor", "Guest likely triple-faulted", f"{_CH}, since 46", exit_reason=8),
    Form("cloud-hypervisor", "VcpuExit::MemoryFault: unknown flags {flags}", _CH, exit_reason=39),
    Form("cloud-hypervisor", "Unexpected system event with type {event}, flags ", _CH, exit_reason=24),
    # crosvm
    Form("crosvm", "vcpu hw run failure: {hardware_error}", _CROSVM, exit_reason=9),
    Form("crosvm", "unexpected vcpu exit: {debug}", _CROSVM),
    Form("crosvm", "vcpu hit unknown error: {errno}", _CROSVM),
    Form("crosvm", "unknown kvm exit reason: {reason}", "crosvm: hypervisor/src/kvm/mod.rs"),
    # StratoVirt. Since 2.0 the number behind Vcpu is fail_entry.cpu, the host's CPU.
    Form("stratovirt", "Vcpu{host_cpu:d} received KVM_EXIT_FAIL_ENTRY signal. the vcpu could not be run due to unknown reasons({hardware_error})", f"{_STRATOVIRT}, since 2.0", exit_reason=9),
    Form("stratovirt", "Vcpu{vcpu:d} received KVM_EXIT_FAIL_ENTRY signal", "stratovirt: cpu/src/lib.rs, until 0.4", exit_reason=9, ends=True),
    Form("stratovirt", "Vcpu{vcpu:d} received KVM_EXIT_INTERNAL_ERROR signal", _STRATOVIRT, exit_reason=17),
    Form("stratovirt", "Vcpu{vcpu:d} received an KVM_EXIT_SHUTDOWN signal", _STRATOVIRT, exit_reason=8),
    Form("stratovirt", "Vcpu{vcpu:d} received unexpected system event with type {event}, flags ", _STRATOVIRT, exit_reason=24),
    Form("stratovirt", "CPU {vcpu:d} received an unexpected exit reason: {debug}", "stratovirt: cpu/src/error.rs"),
    Form("stratovirt", "CPU {vcpu:d} received an unhandled exit event: error {number:d}", "stratovirt: cpu/src/error.rs"),
    # OpenVMM: structured logging, as text or as JSON
    Form("openvmm", 'VP entry failed"{*}"hardware_entry_failure_reason":{hardware_error}', "openvmm: vmm_core/virt_kvm", exit_reason=9),
    Form("openvmm", "VP entry failed hardware_entry_failure_reason={hardware_error}", "openvmm: vmm_core/virt_kvm", exit_reason=9),
    Form("openvmm", "hardware_entry_failure_reason={hardware_error} {*}VP entry failed", "openvmm: vmm_core/virt_kvm", exit_reason=9),
    Form("openvmm", "VP entry failed", "openvmm: the message alone, as collectors of JSON show it", exit_reason=9, ends=True),
    Form("openvmm", "fatal error: KVM internal error: {suberror}", "openvmm: vmm_core/virt_kvm: KvmRunVpError", exit_reason=17),
    Form("openvmm", "KVM emulation failure: instruction [{instruction}]", "openvmm: vmm_core/virt_kvm: EmulationError; what KVM had fetched", exit_reason=17),
    Form("openvmm", "triple fault vtl={*} vp={vcpu:d}", "openvmm: vmm_core/src/partition_unit/vp_set.rs", exit_reason=8),
    Form("openvmm", "unhandled system event type: {event}", "openvmm: vmm_core/virt_kvm: KvmRunVpError", exit_reason=24),
    Form("openvmm", "unhandled KVM hypercall: nr=", "openvmm: vmm_core/virt_kvm: KvmRunVpError", exit_reason=3),
    Form("openvmm", "SEV guest requested termination: ghcb_msr=", "openvmm: vmm_core/virt_kvm: KvmRunVpError", exit_reason=24),
    Form("openvmm", "failed to run VP: {errno}", "openvmm: vmm_core/virt_kvm: KvmRunVpError"),
    # uhyve
    Form("uhyve", "VcpuExitFailEntry { hardware_entry_failure_reason: {hardware_error}, cpu: {host_cpu:d} }", f"{_UHYVE}, since 0.3", exit_reason=9),
    Form("uhyve", "crashed with KvmError(Error({number:d}))", "uhyve: src/vm.rs"),
    Form("uhyve", "InternalError", f"{_UHYVE}: a panic's message, on a line of its own", exit_reason=17, after="kvm_cpu.rs:"),
    Form("uhyve", "not implemented: {debug}", f"{_UHYVE}, until 0.4: a panic"),
    # kvmtool
    Form("kvmtool", 'KVM exit reason: {reason} ("{*}")', "kvmtool: builtin-run.c"),
    Form("kvmtool", "KVM exit code: {second}", "kvmtool: builtin-run.c; the second line, for KVM_EXIT_UNKNOWN"),
    # Solo5, ukvm, HermitCore's proxy
    Form(None, "KVM: entry failure: hw_entry_failure_reason={hardware_error}", _SOLO5, exit_reason=9),
    Form(None, "KVM: internal error exit: suberror={suberror}", _SOLO5, exit_reason=17),
    Form("solo5", "KVM: unhandled exit: exit_reason={reason}, rip={rip}", _SOLO5),
    Form("solo5", "KVM: unhandled exit: exit_reason={reason}, pc={rip}", "solo5: tenders/hvt/hvt_kvm_aarch64.c"),
    Form("solo5", "KVM: host/guest translation fault: rip={rip}", f"{_SOLO5}: KVM_RUN said EFAULT", errno="EFAULT"),
    Form("solo5", "KVM: host/guest translation fault: pc={rip}", "solo5: tenders/hvt/hvt_kvm_aarch64.c", errno="EFAULT"),
    Form("solo5", "KVM: ioctl (RUN) failed: {errno}", _SOLO5),
    Form("uhyve", "KVM: receive shutdown command", "hermit-caves: uhyve.c, HermitCore's proxy", exit_reason=8),
    # dosemu2
    Form("dosemu2", "KVM: KVM_RUN failed: {errno}", _DOSEMU),
    Form("dosemu2", "KVM: strange return {*}, errno={number:d}", _DOSEMU),
    Form("dosemu2", "KVM: exit_reason = {reason}", _DOSEMU),
    # gVisor: the first eight bytes of the union, whatever the exit
    Form("gvisor", "unexpected internal_error exit: {word:x}", _GVISOR, exit_reason=17),
    Form("gvisor", "unexpected fail_entry exit: {word:x}", _GVISOR, exit_reason=9),
    Form("gvisor", "unexpected exception exit: {word:x}", _GVISOR, exit_reason=1),
    Form("gvisor", "unexpected shutdown exit: {word:x}", _GVISOR, exit_reason=8),
    Form("gvisor", "unexpected I/O exit: {word:x}", _GVISOR, exit_reason=2),
    Form("gvisor", "unexpected hypercall exit: {word:x}", _GVISOR, exit_reason=3),
    Form("gvisor", "unexpected debug exit: {word:x}", _GVISOR, exit_reason=4),
    Form("gvisor", "unexpected MMIO exit: {word:x}", _GVISOR, exit_reason=6),
    Form("gvisor", "host out of memory", _GVISOR, errno="ENOMEM", ends=True),
    Form("gvisor", "host out of MMU pages", _GVISOR, errno="ENOSPC", ends=True),
    Form("gvisor", "fatal error: run failed: ENOSYS", "gvisor: bluepill_amd64_unsafe.go", errno="ENOSYS"),
    # hyperlight
    Form("hyperlight", "Unknown KVM VCPU exit: {debug}", "hyperlight: virtual_machine/kvm/x86_64.rs, since 0.10"),
    Form("hyperlight", "Unexpected KVM Exit {debug}", "hyperlight: hypervisor/kvm.rs, until 0.9"),
    Form("hyperlight", "Error running VCPU {errno}", "hyperlight: hypervisor/kvm.rs, until 0.9"),
    # km
    Form("km", "KVM: fail entry {hardware_error}", _KM, exit_reason=9),
    Form("km", "KVM: internal error, suberr {suberror}", _KM, exit_reason=17),
    Form("km", "KVM: unknown err {hardware_reason}", _KM, exit_reason=0),
    Form("km", "KVM: exit. reason={reason} (", _KM),
    Form("km", "km: KVM: shutdown", _KM, exit_reason=8, ends=True),
    Form("km", "KVM: vcpu run failed: {errno}", _KM),
    Form("km", "km: KVM_EXIT_FAIL_ENTRY", f"{_KM}: the first of two lines", exit_reason=9, ends=True),
    # gokvm
    Form("gokvm", "unexpected kvm exit reason: EXIT{exit}", "gokvm: machine/machine.go, kvm/exittype_string.go"),
    Form("gokvm", "unexpected kvm exit reason: {reason}", "gokvm: main.go, until 2021"),
    # enarx
    Form("enarx", "KVM error: {debug}", "enarx: src/backend/kvm/thread.rs"),
    # VirtualBox on KVM; its data are printed as a hex string
    Form("virtualbox", "NEM: KVM_EXIT_INTERNAL_ERROR! suberror={suberror} ({*}) ndata={ndata} data={data_bytes}", "virtualbox: src/VBox/VMM/VMMR3/NEMR3Native-linux.cpp", exit_reason=17),
    # KVM selftests: what was got, never what was wanted
    Form("kvm selftests", "Wanted KVM exit reason: {wanted} ({*}), got: {reason} (", f"{_SELFTEST}: TEST_ASSERT_KVM_EXIT_REASON, since 6.4"),
    Form("kvm selftests", "KVM_RUN failed, rc: -1 errno: {number:d} (", f"{_SELFTEST}: include/kvm_util.h, KVM_IOCTL_ERROR, since 6.0"),
    Form("kvm selftests", "Invalid guest sync status: exit_reason={exit}", f"{_SELFTEST}: dirty_log_test.c and others"),
    Form("kvm selftests", "KVM internal error: suberror {suberror}", f"{_SELFTEST}: include/x86/processor.h", exit_reason=17),
    # gem5
    Form("gem5", "KVM: Failed to enter virtualized mode (hw reason: {hardware_error})", _GEM5, exit_reason=9),
    Form("gem5", "KVM: Internal error (suberror: {suberror})", _GEM5, exit_reason=17),
    Form("gem5", "KVM: Unexpected exit (exit_reason: {reason})", _GEM5),
    Form("gem5", "KVM: Unknown error when starting vCPU (hw reason: {hardware_reason})", _GEM5, exit_reason=0),
    Form("gem5", "KVM: Got exception when starting vCPU (exception: {exception}, error_code: {error_code})", _GEM5, exit_reason=1),
    Form("gem5", "KVM: Unhandled guest IO (dir: {*}, count: {*})", _GEM5, exit_reason=2),
    Form("gem5", "panic: KVM: Unhandled hypercall", _GEM5, exit_reason=3, ends=True),
    Form("gem5", "KVM: Failed to start virtual CPU (errno: {number:d})", _GEM5),
    # opendcdiag
    Form("opendcdiag", "KVM exit reason: KVM_EXIT_UNKNOWN, Hardware exit reason: {hardware_reason}", _DCDIAG, exit_reason=0),
    Form("opendcdiag", "KVM exit reason: KVM_EXIT_FAIL_ENTRY, Hardware entry exit reason: {hardware_error}, cpu:{host_cpu:d}", _DCDIAG, exit_reason=9),
    Form("opendcdiag", "KVM exit reason: KVM_EXIT_EXCEPTION, Exception code: {exception}, error_code: {error_code}", _DCDIAG, exit_reason=1),
    Form("opendcdiag", "KVM exit reason: KVM_EXIT_INTERNAL_ERROR, internal.suberror: {suberror}, internal.ndata: {ndata}", _DCDIAG, exit_reason=17),
    Form("opendcdiag", "KVM exit reason: KVM_EXIT_{exit}", _DCDIAG),
    # nanvix
    Form("nanvix", "run(): fail entry (reason={hardware_error}, cpud={host_cpu:d})", _NANVIX, exit_reason=9),
    Form("nanvix", "run(): internal error", _NANVIX, exit_reason=17, ends=True),
    Form("nanvix", "run(): shutdown", _NANVIX, exit_reason=8, ends=True),
    Form("nanvix", "run(): exception", _NANVIX, exit_reason=1, ends=True),
    Form("nanvix", "run(): unsupported exit reason ({reason})", _NANVIX),
    Form("nanvix", "run(): error running vCPU (error={errno}", _NANVIX),
    # tinykvm: C++ exceptions
    Form("tinykvm", "Failed to start guest! Misconfigured?", _TINYKVM, exit_reason=9),
    Form("tinykvm", "Shutdown! Triple fault?", _TINYKVM, exit_reason=8),
    # rust-vmm's reference
    Form("vmm-reference", "Emulation error: {errno}", _REFERENCE),
    Form("vmm-reference", "Guest shutdown: Shutdown. Bye!", _REFERENCE, exit_reason=8),
    Form("vmm-reference", "Unhandled vcpu exit: {debug}", _REFERENCE),
    # QEMU's own trace points (-trace kvm_run_exit)
    Form("qemu", "KVM internal error: Encounter a notify exit with {*}valid context in guest", "qemu: target/i386/kvm/kvm.c: kvm_arch_handle_exit, since 7.2", exit_reason=37),
    Form("qemu", "KVM internal error: Encountered a notify exit with {*}valid context in guest", "qemu: target/i386/kvm/kvm.c: kvm_arch_handle_exit, since 10.1", exit_reason=37),
    Form("qemu", "kvm_run_exit cpu_index {vcpu:d}, reason {reason}", "qemu: accel/kvm/trace-events"),
    # The example of 2015 and what was made after it
    Form(None, "0x{rip:x}: KVM_EXIT_FAIL_ENTRY: hardware_entry_failure_reason = {hardware_error}", "kvm-hello-world's heirs", exit_reason=9),
    Form(None, "0x{rip:x}: KVM_EXIT_INTERNAL_ERROR: suberror = {suberror}", "kvm-hello-world's heirs", exit_reason=17),
    Form(None, "KVM_EXIT_FAIL_ENTRY: hardware_entry_failure_reason = {hardware_error}", _LWN, exit_reason=9),
    Form(None, "KVM_EXIT_INTERNAL_ERROR: suberror = {suberror}", _LWN, exit_reason=17),
    Form(None, "kvm: exit_reason = {reason}", _LWN),
    Form(None, "Got exit_reason {reason}, expected KVM_EXIT_HLT (", "dpw/kvm-hello-world: kvm-hello-world.c"),
)  # fmt: skip

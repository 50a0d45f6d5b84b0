"""Hypervisors and emulators that are not KVM, and how each says that a guest failed.

A *failure* line names one; *marks* are its other lines, whose values are kept beside it. Named groups are fields.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final, NamedTuple


class Form(NamedTuple):
    speaker: str
    text: str  # the pattern's source, compiled only where an anchor is
    anchors: tuple[str, ...]
    failure: bool
    source: str

    @property
    def pattern(self) -> re.Pattern[str]:
        return _compiled(self.text)


@cache
def _compiled(text: str) -> re.Pattern[str]:
    return re.compile(text, re.MULTILINE)


def _form(speaker: str, pattern: str, *anchors: str, failure: bool = True, source: str) -> Form:
    return Form(speaker, pattern, anchors, failure, source)


_HEX: Final = r"(?:0x)?[0-9a-fA-F]{1,16}"
_NOT_OPENED: Final = r"\b(?:[Ff]ailed to|[Cc]ould not|[Cc]annot|[Uu]nable to) open(?: device)? ['\"]?"

FORMS: Final[tuple[Form, ...]] = (
    # Xen: xen/arch/x86/hvm/vmx/{vmx,vmcs}.c, svm/svm.c, domain.c
    _form(
        "xen",
        rf"\(XEN\)[^\n]{{0,60}}\bVM(?:LAUNCH|RESUME) error: (?P<instruction_error>{_HEX})",
        "(XEN)",
        source="vmx.c: vm_launch_fail, vm_resume_fail",
    ),
    _form(
        "xen",
        rf"\(XEN\)[^\n]{{0,80}}[Ff]ailed vm entry \(exit reason (?P<exit_reason>{_HEX})\)(?: "
        rf"caused by (?P<cause>[a-zA-Z ()0-9-]{{3,60}}))?",
        "ailed vm entry",
        source="vmx.c: vmx_failed_vmentry",
    ),
    _form(
        "xen",
        rf"\(XEN\)[^\n]{{0,60}}VM(?:ENTRY|entry|Entry)? ?[Ff]ail(?:ure|ed)[^\n]{{0,40}}?(?:reason"
        rf"|error)[: =]{{1,3}}(?P<exit_reason>{_HEX})?",
        "(XEN)",
        source="vmx.c",
    ),
    _form(
        "xen",
        r"\(XEN\)[^\n]{0,40}domain_crash called from (?P<where>[^\s]{1,120})",
        "domain_crash called",
        source="xen/include/xen/sched.h: domain_crash",
    ),
    _form(
        "xen",
        r"Domain (?P<domain>[0-9]{1,5}) \(vcpu#(?P<vcpu>[0-9]{1,4})\) crashed on cpu#(?P<cpu>[0-9]{1,4})",
        "crashed on cpu#",
        source="xen/arch/x86/domain.c: __domain_crash",
    ),
    _form(
        "xen",
        r"\(XEN\)[^\n]{0,60}(?:emulation failed|Unhandled (?:exit|vmexit)|unexpected VMEXIT"
        r"|[Uu]nexpected vmexit|Bad vmexit|Fatal (?:machine check|page fault)|Unknown Host LBR|MCE"
        r"|FATAL (?:TRAP|PAGE FAULT))",
        "(XEN)",
        source="hvm/emulate.c, vmx.c, svm.c, traps.c",
    ),
    _form(
        "xen",
        r"\(XEN\) \*\*\* Guest State \*\*\*|\(XEN\)[^\n]{0,20}\*{3,20} VMCS Area",
        "(XEN)",
        source="vmcs.c: vmcs_dump_vcpu",
    ),
    _form(
        "xen",
        r"\(XEN\)[^\n]{0,20}VMEntry: intr_info=(?P<vm_entry_interruption_info>[0-9a-f]{8}) "
        r"errcode=(?P<vm_entry_error_code>[0-9a-f]{8})",
        "VMEntry: intr_info",
        failure=False,
        source="vmcs.c",
    ),
    _form(
        "xen",
        r"\(XEN\)[^\n]{0,40}reason=(?P<exit_reason>[0-9a-f]{8}) qualification=(?P<qualification>[0-9a-f]{8,16})",
        "qualification=",
        failure=False,
        source="vmcs.c",
    ),
    _form(
        "xen",
        r"\[ (?:Xen|XEN)-(?P<version>[0-9.]{1,12}[^\s]{0,20})",
        "Xen-",
        failure=False,
        source="xen/arch/x86/x86_64/traps.c: print_xen_info",
    ),
    # HAXM: intel/haxm core/{vcpu,emulate,vmx}.c; QEMU's target/i386/hax
    _form("haxm", r"haxm_panic: ?(?P<message>[^\n]{3,160})", "haxm_panic", source="haxm core/*.c: hax_panic_vcpu"),
    _form(
        "haxm",
        # the driver for Windows puts no blank behind the prefix
        r"haxm_error: ?(?:exit_|vcpu_vmexit_handler|[a-z_]{3,48}(?:\(\))?: [^\n]{0,60}(?:fail|invalid|unhandled"
        r"|unsupported))",
        "haxm_error",
        source="haxm core/vcpu.c",
    ),
    _form(
        "haxm",
        r"haxm_(?:warning|error): ?(?:vcpu (?:has panicked|is paniced), id:[0-9]{1,3}"
        r"|[0-9a-f]{4} (?:VMX|VM|GUEST|HOST)_[A-Z0-9_]{3,40}: "
        r"|log_(?:host_cr4|vmxon|vmxoff|vmoff|vmclear|vmptrld)[a-z0-9_]{0,16}:? [0-9a-f]"
        r"|VM entry failed: RIP=|VMfail(?:Valid|Invalid)\. Prev exit|cpu_vmx_run error|vm(?:ptrld|clear) failed"
        r"|\[#[0-9]{1,4}\] (?:VMXON failed|INVEPT failed|VMXOFF Failed|NO VMXOFF)"
        r"|(?:VT|NX|EM64T) is not (?:supported|enabled) in the system)",
        "haxm_warning",
        "haxm_error",
        source="haxm core/{cpu,vcpu,dump,ept,hax}.c: cpu_vmx_execute, hax_panic_log, dump_vmcs",
    ),
    _form(
        "haxm",
        r"instr\[0\.\.[0-9]{1,2}\]=(?P<insn>(?:0x[0-9a-f]{1,2} ?){1,15})",
        "instr[0..",
        failure=False,
        source="haxm core/vcpu.c: em_decode_insn",
    ),
    _form(
        "haxm",
        r"VCPU shutdown request|Unknown hax vcpu return (?P<status>[0-9a-fx]{1,10})|HAX is not working"
        r"|hax[^\n]{0,30}(?:failed|can't be opened)|HAXM is not installed",
        "VCPU shutdown request",
        "hax ",
        "HAX",
        "hax_",
        source="QEMU target/i386/hax: hax_vcpu_hax_exec",
    ),
    _form(
        "haxm",
        r"(?P<message>HAX kernel module is not installed|HAXM is not installed|Intel HAXM is required to run this AVD)"
        r"|ensure Intel HAXM is properly installed",
        "HAX",
        source="Android emulator, android/emulation/CpuAccelerator.cpp",
    ),
    # bhyve: usr.sbin/bhyve/{vmexit,inout}.c; sys/amd64/vmm
    _form(
        "bhyve",
        rf"Failed to emulate instruction \[(?P<insn>(?:0x[0-9a-f]{{2}} ?){{1,15}})\] at (?P<rip>{_HEX})",
        "Failed to emulate instruction",
        source="bhyve vmexit.c: vmexit_inst_emul",
    ),
    _form(
        "bhyve",
        r"bhyve[^\n]{0,60}(?:vm_run error|unhandled exit|Unhandled|triple[- ]fault|suspend)"
        r"|vm_run error -1, errno (?P<errno>[0-9]{1,3})",
        "bhyve",
        "vm_run error",
        source="bhyve bhyverun.c: vm_loop",
    ),
    _form(
        "bhyve",
        rf"vm exit\[(?P<vcpu>[0-9]{{1,4}})\]\s{{1,40}}reason\s{{1,40}}(?P<vendor>VMX|SVM|INOUT|INST_EMUL"
        rf"|BOGUS|[A-Z_]{{3,20}})\s{{1,40}}rip\s{{1,40}}(?P<rip>{_HEX})",
        "vm exit[",
        source="bhyve vmexit.c: vmexit_vmx (also xhyve, hyperkit)",
    ),
    _form(
        "bhyve",
        r"vmx_init: (?P<message>processor (?:does not support|not supported by) [^\n]{3,80}"
        r"|VMX operation disabled by BIOS)",
        "vmx_init: ",
        source="FreeBSD sys/amd64/vmm/intel/vmx.c: vmx_init, vmx_modinit (also xhyve, hyperkit)",
    ),
    _form(
        "bhyve",
        # 0 to 2 are orderly: reset, power off, halt
        r"\bbhyve exited with status (?P<status>[3-9]|[1-9][0-9]{1,2})(?![0-9])",
        "bhyve exited with status",
        source="vm-bhyve lib/vm-run: vm::run; bhyve(8), exit status",
    ),
    _form(
        "bhyve",
        r"^[ \t]*exit_reason\s{1,8}(?P<exit_reason>[0-9]{1,5})",
        "exit_reason",
        failure=False,
        source="bhyve vmexit.c",
    ),
    _form(
        "bhyve",
        rf"^[ \t]*(?:exit_)?qualification\s{{1,8}}(?P<qualification>{_HEX})",
        "qualification",
        failure=False,
        source="bhyve vmexit.c",
    ),
    _form(
        "bhyve",
        r"^[ \t]*inst_error\s{1,8}(?P<instruction_error>[0-9]{1,5})",
        "inst_error",
        failure=False,
        source="bhyve vmexit.c",
    ),
    # HyperKit and xhyve: bhyve's code on Hypervisor.framework
    _form(
        "hyperkit",
        r"VMCS_PIN_BASED_CTLS:\s{1,20}(?P<pin_based_controls>0x[0-9a-f]{1,16})",
        "VMCS_PIN_BASED_CTLS",
        source="xhyve src/vmm/intel/vmcs.c: vmx_dump",
    ),
    _form(
        "hyperkit",
        r"\b(?:hyperkit|xhyve)\b[^\n]{0,80}(?:fail|error|exit|assert|trap)",
        "hyperkit",
        "xhyve",
        source="moby/hyperkit",
    ),
    # Hypervisor.framework
    _form(
        "hvf",
        r"\btriple fault at (?P<rip>[0-9a-f]{1,16}) \([0-9a-f]{1,16}, [0-9a-f]{1,16}\), "
        r"cr0 (?P<cr0>[0-9a-f]{1,16}), qual",
        "triple fault at ",
        source="Veertu's vdhh, and vmx code after it: EXIT_REASON_TRIPLE_FAULT",
    ),
    _form(
        "hvf",
        r"\b(?P<call>hv_v(?:m|cpu)_[a-z_]{2,30})\b[^\n]{0,60}(?:fail|error|returned|HV_)"
        r"|\b(?P<status>HV_(?:ERROR|BUSY|BAD_ARGUMENT|NO_RESOURCES|NO_DEVICE|DENIED|UNSUPPORTED"
        r"|ILLEGAL_GUEST_STATE))\b",
        "hv_v",
        "HV_ERROR",
        "HV_B",
        "HV_NO_",
        "HV_DENIED",
        "HV_UNSUPPORTED",
        "HV_ILLEGAL",
        source="Hypervisor.framework hv_error.h; QEMU accel/hvf",
    ),
    _form(
        "hvf",
        r"Assertion failed: [^\n]{0,80}\bfunction hvf_[a-z_]{3,40}",
        "function hvf_",
        source="QEMU target/{arm,i386}/hvf: assert()",
    ),
    _form(
        "hvf",
        rf"VM-entry failure exit reason: (?P<exit_reason>{_HEX})",
        "VM-entry failure exit reason",
        source="noah src/main.c: check_vm_entry",
    ),
    _form(
        "hvf",
        r"failed to initialize (?:hvf|HVF)|-accel hvf: [^\n]{2,80}",
        "initialize hvf",
        "initialize HVF",
        "-accel hvf",
        source="QEMU accel/hvf",
    ),
    # Gunyah of Qualcomm and GenieZone of MediaTek: crosvm has a backend for each, and prints errors as with KVM. With
    # ``backend`` a VMM says that it runs on the one; programs that only look for the device name it, too.
    _form(
        "gunyah",
        r"(?P<backend>creating hypervisor: Gunyah\b|--hypervisor[ =]gunyah\b|\bGUNYAH_ERROR_[A-Z_]{2,30})",
        "ypervisor: Gunyah",
        "ypervisor gunyah",
        "ypervisor=gunyah",
        "GUNYAH_ERROR_",
        source="crosvm src/crosvm/sys/linux.rs: create_guest_hypervisor; include/linux/gunyah.h: enum gunyah_error",
    ),
    _form(
        "gunyah",
        rf"{_NOT_OPENED}/dev/gunyah\b",
        "/dev/gunyah",
        source="crosvm hypervisor/src/gunyah/mod.rs; samples/gunyah of the driver's patches",
    ),
    _form("gunyah", r"/dev/gunyah\b|\bgunyah_vm_mgr\b", "/dev/gunyah", "gunyah_vm_mgr", failure=False, source="many"),
    _form(
        "geniezone",
        r"(?P<backend>creating hypervisor: Geniezone\b|--hypervisor[ =]geniezone\b)",
        "ypervisor: Geniezone",
        "ypervisor geniezone",
        "ypervisor=geniezone",
        source="crosvm src/crosvm/sys/linux.rs: create_guest_hypervisor",
    ),
    _form("geniezone", rf"{_NOT_OPENED}/dev/gzvm\b", "/dev/gzvm", source="crosvm hypervisor/src/geniezone/mod.rs"),
    _form("geniezone", r"/dev/gzvm\b", "/dev/gzvm", failure=False, source="many"),
    # Windows Hypervisor Platform
    _form("whpx", r"WHPX: (?P<message>[^\n]{3,160})", "WHPX:", source="QEMU target/i386/whpx/whpx-all.c"),
    _form(
        "whpx",
        r"\bWHvRunVpExitReason(?P<message>UnrecoverableException|InvalidVpRegisterValue|UnsupportedFeature)\b",
        "WHvRun",
        source="WinHvPlatformDefs.h: WHV_RUN_VP_EXIT_REASON",
    ),
    _form(
        "whpx",
        r"\bWHv[A-Z][A-Za-z]{3,40}[^\n]{0,60}(?:fail|error|0x[0-9a-fA-F]{8})"
        r"|WHPX: No accelerator found, hr=(?P<hr>[0-9a-fA-F]{8})|failed to initialize (?:whpx|WHPX)",
        "WHv",
        "initialize whpx",
        "initialize WHPX",
        source="WinHvPlatform.h",
    ),
    _form(
        "whpx",
        r"WHPX: Unexpected VP exit code (?P<exit_code>[0-9]{1,6})",
        "VP exit code",
        failure=False,
        source="whpx-all.c: whpx_vcpu_run",
    ),
    # VirtualBox
    _form(
        "virtualbox",
        r"Guru Meditation (?P<status>-?[0-9]{1,6}) \((?P<error>V(?:ERR|INF)_[A-Z0-9_]{3,48})\)",
        "Guru Meditation",
        source="VirtualBox src/VBox/VMM/VMMR3/VMMGuruMeditation.cpp",
    ),
    _form(
        "virtualbox",
        r"\{cpum(?:hyper|host|guest|guestinstr), verbose\}|Hypervisor CPUM state: ",
        "CPUM state: ",
        "{cpum",
        source="VMMGuruMeditation.cpp: vmmR3FatalDump; CPUM.cpp: cpumR3InfoHyper",
    ),
    _form("virtualbox", r"\b(?P<error>VERR_[A-Z0-9_]{3,48})\b", "VERR_", source="VirtualBox include/iprt/err.h"),
    _form(
        "virtualbox",
        r"TRAP=(?P<vector>[0-9a-f]{2}) ERRCD=(?P<error_code>[0-9a-f]{8,16}) "
        r"CR2=(?P<cr2>[0-9a-f]{8,16}) E?R?IP=(?P<rip>[0-9a-f]{8,16})",
        "TRAP=",
        failure=False,
        source="VMMGuruMeditation.cpp",
    ),
    # VMware
    _form(
        "vmware",
        r"MONITOR PANIC: (?P<message>[^\n]{3,160})|VMware (?:Workstation|Player|ESX"
        r"|Fusion)[^\n]{0,30}unrecoverable error: ?(?P<error>[^\n]{0,120})"
        r"|Module '(?P<module>[A-Za-z0-9_]{2,24})' power on failed|MonitorMode power on failed"
        r"|Virtualized (?:Intel VT-x|AMD-V)[^\n]{0,12} is not supported on this platform"
        r"|vmkernel: cpu[0-9]{1,4}:[^\n]{0,200}(?:TDH\.[A-Z.]{3,24}|VMMON|VMX|SEV)[^\n]{0,80}fail",
        "MONITOR PANIC",
        "vmkernel: cpu",
        "unrecoverable error",
        "power on failed",
        "not supported on this platform",
        source="vmware.log",
    ),
    _form(
        "vmware",
        r"(?P<message>This host supports (?:Intel VT-x|AMD-V), but (?:Intel VT-x|AMD-V) is (?:disabled|not available))",
        "This host supports",
        source="VMware Workstation",
    ),
    # Hyper-V
    _form(
        "hyper-v",
        r"(?P<message>could not be started because the hypervisor is not running"
        r"|WSL ?2 is (?:unable to start|not supported)[^\n]{0,80}virtuali[sz]ation|HCS_E_HYPERV_NOT_INSTALLED)",
        "the hypervisor is not running",
        "WSL2 is",
        "WSL 2 is",
        "HCS_E_HYPERV",
        source="Windows event log; wsl.exe",
    ),
    _form(
        "hyper-v",
        r"Hyper-V-(?:Worker|Hypervisor|VMMS)[^\n]{0,200}|unrecoverable error occurred on "
        r"a virtual processor that caused a triple fault|\bMSHV_[A-Z_]{3,30}\b[^\n]{0,60}(?:fail|error)"
        r"|mshv[^\n]{0,60}(?:failed|error)",
        "Hyper-V-",
        "virtual processor that caused",
        "MSHV_",
        "mshv",
        source="Windows event log; drivers/hv/mshv",
    ),
    # QEMU's own emulator, TCG
    _form(
        "tcg",
        rf"qemu(?:-system-[a-z0-9_]{{2,12}})?: fatal: Trying to execute code outside RAM or ROM at (?P<address>{_HEX})",
        "outside RAM or ROM",
        source="QEMU cputlb.c: get_page_addr_code (until 2.x)",
    ),
    _form(
        "tcg",
        r"qemu(?:-system-[a-z0-9_]{2,12})?: fatal: (?P<message>[^\n]{3,160})",
        ": fatal: ",
        source="QEMU cpu_abort",
    ),
    _form(
        "tcg",
        r"qemu(?:-system-[a-z0-9_]{2,12})?: hardware error: (?P<message>[^\n]{3,160})",
        "hardware error: ",
        source="QEMU hw_error",
    ),
    _form(
        "tcg",
        r"qemu(?:-[a-z0-9_-]{2,20})?: (?:unhandled CPU exception|uncaught target signal) (?P<message>[^\n]{1,80})",
        "unhandled CPU exception",
        "uncaught target signal",
        source="QEMU linux-user",
    ),
    _form(
        "tcg",
        # Under KVM nobody computes flags lazily: CCO stays DYNAMIC, as it is after a reset, or EFLAGS.
        r"\bCCS=[0-9a-f]{8,16} CCD=[0-9a-f]{8,16} CCO=(?!DYNAMIC|EFLAGS)[A-Z]{2,8}",
        "CCS=",
        source="QEMU target/i386/cpu-dump.c: CPU_DUMP_CCOP",
    ),
    _form(
        "tcg",
        r"^[ \t]{0,6}[0-9]{1,9}: v=[0-9a-f]{2} e=[0-9a-f]{4} i=[01] cpl=[0-3]",
        ": v=",
        source="QEMU -d int: do_interrupt_all",
    ),
    _form(
        "tcg",
        r"check_exception old: 0x[0-9a-f]{1,8} new 0x[0-9a-f]{1,4}",
        "check_exception old",
        source="QEMU target/i386/tcg/excp_helper.c",
    ),
    # macOS's Virtualization framework
    _form(
        "hvf",
        # KVM's has the errno: VmCreate(Error(22)).
        r"\bVmSetup\((?P<message>VmCreate)\)",
        "VmSetup(VmCreate)",
        source="libkrun src/hvf/src/lib.rs: Error",
    ),
    _form(
        "hvf",
        r"Domain=VZErrorDomain Code=(?P<status>[0-9]{1,5})",
        "VZErrorDomain",
        source="Virtualization.framework VZError.h",
    ),
    # OpenBSD's vmm(4), sys/arch/amd64/amd64/vmm.c and vmm_machdep.c
    _form(
        "openbsd-vmm",
        r"\b(?:vcpu_run_(?:vmx|svm)|vmx_handle_exit|svm_handle_exit|vmx_fault_page|vmx_enter_guest|vmm_handle_cpuid): "
        r"[^\n]{0,80}(?:fail|error|unhandled|unexpected|cannot|invalid)",
        "vcpu_run_vmx: ",
        "vcpu_run_svm: ",
        "_handle_exit: ",
        "vmx_fault_page: ",
        "vmx_enter_guest: ",
        source="OpenBSD sys/arch/amd64/amd64/vmm_machdep.c: vcpu_run_vmx",
    ),
    # Jailhouse, hypervisor/arch/x86/vmx.c and svm.c; hypervisor/control.c
    _form(
        "jailhouse",
        rf"FATAL: (?:VM-Entry failure|Unhandled VM-Exit), reason (?P<exit_reason>{_HEX})"
        rf"|FATAL: vmresume failed, error (?P<instruction_error>{_HEX})"
        rf"|FATAL: Unexpected #VMEXIT, exitcode (?P<vmexit>{_HEX})"
        r"|FATAL: [^\n]{3,80}\n(?:[^\n]{0,120}\n){0,30}?Parking CPU [0-9]{1,4} \(Cell: \"",
        "FATAL: VM-Entry failure",
        "FATAL: Unhandled VM-Exit",
        "FATAL: vmresume failed",
        "FATAL: Unexpected #VMEXIT",
        "Parking CPU ",
        source="jailhouse hypervisor/arch/x86/vmx.c: vcpu_handle_exit, vmx_entry_failure; svm.c: vcpu_handle_exit",
    ),
    # ACRN, hypervisor/arch/x86/guest/vmexit.c; devicemodel/core/main.c
    _form(
        "acrn",
        r"Error: (?:Unhandled|Unexpected) VM exit condition from guest at (?P<rip>0x[0-9a-f]{1,16})"
        r"|ERROR: could not create VCPU [0-9]{1,4}",
        "exit condition from guest",
        "could not create VCPU",
        source="acrn-hypervisor hypervisor/arch/x86/guest/vmexit.c; devicemodel/core/main.c",
    ),
    # Unicorn, Bochs, NoirVisor
    _form(
        "unicorn",
        r"\((?P<error>UC_ERR_[A-Z_]{2,30})\)",
        "(UC_ERR_",
        source="unicorn uc.c: uc_strerror",
    ),
    _form(
        "bochs",
        r"\[CPU[0-9]{0,2}\s{0,4}\][^\n]{0,80}(?:exception with no resolution|\(UNDEFINED|>>PANIC<<)"
        r"|exception with no resolution, shutdown status",
        "with no resolution",
        "[CPU",
        source="bochs cpu/exception.cc",
    ),
    _form("noirvisor", r"\[NoirVisor\] [^\n]{0,40}(?:Error|Failed)[^\n]{0,80}", "[NoirVisor]", source="NoirVisor"),
    _form(
        "noirvisor",
        r"\[NoirVisor\] Failed at VM-Entry, Code=(?P<instruction_error>[0-9]{1,3})",
        "[NoirVisor]",
        failure=False,
        source="NoirVisor",
    ),
    # Hypervisors that people write themselves, and where their VM entry ends
    _form(
        "own",
        r"(?<![A-Za-z])(?:VM(?:LAUNCH|RESUME)|vm(?:launch|resume))\b[^\n]{0,40}?"
        r"(?:[Ff]ailed|[Ee]rror)[^\n]{0,40}?(?:error(?: code)?|code|:)"
        rf"[:= ]{{1,4}}(?P<instruction_error>{_HEX})\b",
        "VMLAUNCH",
        "VMRESUME",
        "vmlaunch failed",
        "vmlaunch error",
        "vmresume failed",
        "vmresume error",
        source="hypervisors of GitHub: what stands behind __vmx_vmlaunch() prints VM_INSTRUCTION_ERROR",
    ),
    _form(
        "own",
        rf"\b(?:[Uu]nhandled|UNHANDLED|[Uu]nknown) VM-?[Ee]xit(?: reason)?\b[:.,]?(?: on VCPU)?(?: [Rr]eason)?"
        rf"[ :=#]{{1,4}}(?:(?P<exit_reason>{_HEX})\b|(?<=reason=)[a-z_]{{3,30}})"
        r"|\bFailed to handle (?:vmexit|VMEXIT)\b: (?P<message>[A-Z][^\n]{2,160})",
        "nhandled VM-",
        "NHANDLED VM",
        "nknown VM-",
        "Failed to handle vmexit",
        "Failed to handle VMEXIT",
        source="mythril src/vmexit.rs: vmexit_handler; illusion-rs and matrix-rs: vmexit_handler; ymir vmx/vcpu.zig",
    ),
    _form(
        "own",
        r"VmExitStartFailed: Failed to enter VM, reason (?P<exit_reason>[0-9]{1,10}), "
        r"code (?P<qualification>[0-9]{1,10})",
        "Failed to enter VM, reason",
        source="HyperBone src/Arch/Intel/VMExit.c: VmExitStartFailed, and its forks",
    ),
)

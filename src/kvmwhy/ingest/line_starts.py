"""How the lines begin that KVM, its VMMs and the kernel print: a broken line's rest begins like none of them.

A form is the beginning of one line of a format string, with the digits in it; none of them can stand where a mailer or
a terminal broke such a line, but for the weak ones.
"""

from __future__ import annotations

import re
from typing import Final

_HEX: Final = r"[0-9a-f]{1,16}\b"

# Sources: QEMU accel/kvm/kvm-all.c, target/*/cpu.c and cpu-dump.c; Linux arch/x86/kvm/vmx/vmx.c, svm/svm.c,
# lib/dump_stack.c, arch/x86/kernel/dumpstack.c, kernel/trace/trace_output.c.
_QEMU: Final = (
    r"KVM internal error",
    r"KVM: ",
    r"(?:\^C)?(?:/\S{0,80}/)?(?:qemu|qemu-kvm|qemu-system-\w{1,16}|kvm): ",
    r"unhandled vm exit: ",
    r"kvm_run(?: returned|: )",
    r"exception \d{1,3} \(",
    rf"(?:rax|rsi|r8 |r12|rip) {_HEX} ",
    r"(?:[cdsefg]s|tr|ldt) [0-9a-f]{4} \(",
    r"[gi]dt [0-9a-f]{1,16}/",
    rf"MSR {_HEX} HID0",
    rf"(?:TB|SRR[01]|SPRG\d|HSRR0|VTB|CFAR|LPCR|PTCR|DAR|GPR\d\d|FPR\d\d|CR) +{_HEX}",
    r"(?:qemu[\w-]{0,40}: )?error: kvm run failed",
    r"extra data\[\d{1,2}\]:",
    r"emulation failure$",
    r"CPU ?#\d{1,4}",
    r"Code=[0-9a-f<?]",
    rf"[RE]AX={_HEX} [RE]BX=",
    rf"[RE]SI={_HEX} [RE]DI=",
    rf"R8 ={_HEX} R9 =",
    rf"R12={_HEX} R13=",
    rf"[RE]IP={_HEX} [RE]FL=",
    rf"(?:ES|CS|SS|DS|FS|GS|LDT|TR) ?=[0-9a-f]{{4}} {_HEX}",
    rf"[GI]DT= {{1,9}}{_HEX}",
    rf"CR0={_HEX} CR2=",
    rf"DR[06]={_HEX} DR[17]=",
    rf"EFER={_HEX}",
    rf" ?PC={_HEX}",
    rf"X\d\d={_HEX} X\d\d=",
    rf"PSTATE={_HEX}",
    rf"NIP +{_HEX}",
    rf"(?:GPR|CRF?)\d\d? {_HEX}",
    rf"PSW=mask {_HEX}",
    rf" (?:pc|mhartid|[msvh][a-z]{{2,8}}) +{_HEX}$",
    rf" x\d{{1,2}}/[a-z]\w{{0,4}} +{_HEX}",
)
_CONTROL: Final = (
    "DebugCtl|PerfGlobCtl|BndCfgS|Interruptibility|InterruptStatus|TSC Offset|TSC Multiplier|EPT pointer|PLE Gap"
    r"|TPR Threshold|SVI\|RVI|Virtual processor ID|VE info address|EOI Exit Bitmap|APIC-access addr"
)
_VMCB: Final = (
    "cr_read|cr_write|dr_read|dr_write|exceptions|intercepts|pause filter count|pause filter threshold|iopm_base_pa"
    "|msrpm_base_pa|tsc_offset|asid|tlb_ctl|int_ctl|int_vector|int_state|exit_code|exit_info1|exit_info2|exit_int_info"
    "|exit_int_info_err|nested_ctl|nested_cr3|avic_[a-z0-9_]{1,24}|event_inj|event_inj_err|virt_ext|next_rip|ghcb"
    "|vmsa_pa|allowed_sev_features|guest_sev_features|bus_lock_counter|es|cs|ss|ds|fs|gs|gdtr|ldtr|idtr|tr|vmpl|cpl"
    "|cr0|cr2|cr4|dr6|rip|rflags|rsp|rax|star|cstar|kernel_gs_base|sysenter_cs|sysenter_eip|gpat|br_from|excp_from"
    "|xcr0|pdptr[02]|sev_features"
)
_VMCS: Final = (
    r"VMC[SB] [0-9a-fx(){}]{1,20}, last attempted",
    r"(?:SVM|SEV|SEV-ES|SEV-SNP) (?:vCPU\d{1,5} )?VMCB ",
    r"\*\*\* (?:Guest|Host|Control) State \*\*\*",
    r"VMCB (?:Control Area|State Save Area):",
    r"CR[034]: actual=0x",
    r"CR3 = 0x",
    r"PDPTR[02] = 0x",
    r"RFLAGS=0x",
    r"RSP = 0x",
    r"Sysenter RSP=",
    r"(?:[CDSEFG]S|LDTR|TR): {0,8}sel=",
    r"[GI]DTR: {0,40}limit=",
    r"EFER ?= {1,9}0x",
    rf"(?:{_CONTROL}) ?= ?",
    r"(?:CS|FSBase|GDTBase|PinBased|CPUBased|EntryControls|ExceptionBitmap)=(?:0x)?[0-9a-f]",
    r"VM(?:Entry|Exit): intr_info=",
    r" {8}reason=",
    r"IDTVectoring: info=",
    rf"(?:{_VMCB}): {{0,24}}(?:s: )?[0-9a-f]",
)
_KERNEL: Final = (
    r"(?:kvm|kvm_intel|kvm_amd)(?: \[\d{1,10}\])?: ",
    r"kvm_[a-z][a-z0-9_]{1,40}: ",  # a tracepoint, where the columns before it were cut off
    r"(?:WARNING: CPU|BUG: |INFO: |Oops: |general protection fault|invalid opcode|watchdog: |------------\[|---\[ end)",
    r"CPU: \d{1,5} ",
    r"Hardware name: ",
    r"Modules linked in:",
    r"(?:Call Trace|RIP: [0-9a-f]{4}:|RSP: [0-9a-f]{4}:|Code: [0-9a-f<])",
    rf"R(?:AX|DX|BP|10|13): {_HEX} R",
    rf"(?:FS: {{1,4}}{_HEX}\(|CS: {{1,4}}[0-9a-f]{{4}} DS:|CR2: {_HEX} CR3)",
    rf"(?:PKRU|DR0|DR3): {_HEX}",
    r" ?\{ Op0\(",
    r" {1,2}(?:\? )?[a-z_][\w.]{1,80}\+0x[0-9a-f]{1,6}/0x",
    r" ?</?(?:TASK|IRQ|NMI)>",
)
_EVENT: Final = r"[^\n]{1,60}?-?\d{1,10}[ \t]{1,20}(?:\([ \d-]{1,10}\)[ \t]{1,8})?(?:\[\d{3,5}\]|\d{1,4}[.a-zA-Z#]{2,6})[ \t]{1,20}[^\n]{0,30}?\d\.\d{3,9}:(?:\s|$)"  # noqa: E501
_OTHER: Final = (
    r"data\[ {0,3}\d{1,2} {0,3}\] ?= ?",
    r"kvm_s?regs2? \{",
    r"(?:Caused by|stack backtrace|Stack backtrace):$",
    r"(?:Error|panic|note|goroutine \d{1,6}.{0,40}|thread '.{1,60} panicked at.{0,80}): ?",
    r"(?:Aborted|Killed|Segmentation fault|Bail out!|Trace/breakpoint trap)",
    r"\d\d:\d\d:\d\d[. ]",
    r"```|~~~|-{4,}|={4,}",
    r"On [A-Z0-9][^\n]{4,120}wrote:$",
    r"[\w./-]{0,40}[#$] ",
    r"(?:From|To|Subject|Date|Cc): ",
)
# What a collector puts before a line: a time, a priority, a writer, or the brace of a record.
_DAY: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH: Final = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_STAMP: Final = (
    r"<\d{1,3}>(?! )",
    r"\{ ?\"",
    r"\[ {0,8}\d{1,9}\.\d{1,9}\]",
    rf"\[?(?:{_DAY} )?\d{{4}}[-/]\d\d[-/]\d\d[T _]\d\d:",
    rf"\[?(?:{_DAY} )?{_MONTH} [ \d]\d \d",
    r"\d{9,10}\.\d{3,9} ",
    r"[\w.@/-]{1,64}\[\d{1,10}\]: ",
    r"(?:time|ts)=[\"\d]",
    r"\[pod/",
    r"[a-z][\w.-]{1,60} {0,40}\| ",
    r"kern {0,4}:[a-z]{1,7} {0,4}: ",
)


def _any(*forms: str) -> re.Pattern[str]:
    return re.compile("[ \t]{0,12}(?:" + "|".join(forms) + ")")


STAMPED: Final = re.compile(rf"[ \t]{{0,16}}(?:{'|'.join(_STAMP)})|{_EVENT}")
EVENT: Final = re.compile(_EVENT)
KNOWN: Final = _any(*_QEMU, *_VMCS, *_KERNEL, *_OTHER)
DUMPED: Final = _any(*(form for form in _QEMU if "=" in form or _HEX in form))
BREAKABLE: Final = _any(*_QEMU, *_VMCS, *_KERNEL)
STRONG: Final = _any(
    *_QEMU, *_OTHER
)  # also behind lines that have a stamp, where a line without one continues the last
SPEAKS: Final = re.compile(
    "[kK][vV][mM]|[vV][cC][pP][uU]|[vV][mM][xX]|[vV]m[eE]xit|suberror|rrno|os error|VM[- ][eE]ntry|emulat"
    "|[tT][dD][xX]|SEAMCALL|[sS][eE][vV]_|SEV|MSR|haxm|[hH]ypervisor"
)

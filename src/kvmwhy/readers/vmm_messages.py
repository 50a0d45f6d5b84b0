"""The one line in which a VMM other than QEMU says that KVM gave up: most throw the record away.

What the line has is kept (a number in it, the vCPU, the errno), and the record says what the VMM did
with the rest and how to get it. Formats: the sources of crosvm, Cloud Hypervisor, Firecracker, kvmtool,
uhyve, libkrun, dosemu2 and of VMMs made after the LWN example of 2015, which print ``suberror = 0x1``.
"""

from __future__ import annotations

import re
from typing import Any, Final

from kvmwhy.ingest.marks import VMM_LINE
from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.readers.host_context import host_of
from kvmwhy.readers.qemu.banner import ERRNO, ERRNO_NUMBERS
from kvmwhy.readers.vmm_registers import Registers, find_registers
from kvmwhy.record import Failure, Kind, Source

_NUMBER: Final = r"(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})(?![0-9a-zA-Z])"
_ERRNOS: Final = "|".join(map(re.escape, sorted(ERRNO, key=len, reverse=True)))
_LINE: Final = re.compile(
    # KVM_EXIT_INTERNAL_ERROR with its suberror, as small VMMs print it
    rf"(?:INTERNAL_ERROR|[Ii]nternal error(?: exit)?)(?:: | \(|, )(?:suberror ?[=:]? ?)(?P<suberror>{_NUMBER})"
    rf"|(?<!_EXIT_)\bINTERNAL_ERROR: (?P<bare>{_NUMBER})"
    # KVM_EXIT_FAIL_ENTRY
    rf"|(?:hardware_entry_failure_reason|hw_entry_failure_reason)\\?[\"']?(?: ?[=:] ?| )(?P<entry>{_NUMBER})(?:, ?cpu: ?(?P<cpu>[0-9]{{1,5}}))?"  # noqa: E501
    rf"|\bFailEntry\((?P<debug>{_NUMBER})(?:, ?(?P<debugcpu>[0-9]{{1,5}}))?"
    rf"|KVM_EXIT_FAIL_ENTRY signal: (?P<signal>{_NUMBER})(?: on cpu (?P<signalcpu>[0-9]{{1,5}}))?"
    rf"|(?:vcpu hw run failure:|vm entry failed with error|\bFAIL_ENTRY:) ?(?P<crosvm>{_NUMBER})"
    # KVM_EXIT_INTERNAL_ERROR and nothing more
    r"|(?P<internal>Received KVM_EXIT_INTERNAL_ERROR|ERROR: KVM_EXIT_INTERNAL_ERROR|unexpected vcpu exit: InternalError"
    r"|[Ee]xit reason on vcpu run: InternalError|(?:unhandled|unexpected|not implemented:|unsupported)[^\n]{0,60}?\bInternalError\b"  # noqa: E501
    r"|Vcpu(?:UnhandledKvmExit|ExitInternalError)\b)"
    # kvmtool, which prints the exit's number
    rf"|KVM exit reason: (?P<reason>[0-9]{{1,3}})(?= \()|KVM exit code: (?P<code>{_NUMBER})"
    r"|unknown kvm exit reason: (?P<unknown>[0-9]{1,3})"
    # no VM was ever made
    rf"|(?P<create>(?:KVM_CREATE_VM\)?|[Uu]nable to create VM|failed to initialize (?:KVM|kvm)|[Cc]reating the (?:KVM|Kvm) object|CreateVm\()"  # noqa: E501
    rf"[^\n]{{0,80}}?(?:os error 16|Error\(16\)|Device or resource busy|EBUSY))"
    # ioctl(KVM_RUN) failed
    r"|(?:KVM_RUN|[Ff]ailed to run (?:the )?v[cC][pP][uU]|[Ff]ailure during vcpu run|vcpu run|VcpuRun\(|VCPU error|vcpu hit unknown error)"  # noqa: E501
    rf"[^\n]{{0,120}}?(?:os error (?P<os>[0-9]{{1,3}})|\bError\((?P<rust>[0-9]{{1,3}})\)|errno[ =:]{{1,3}}(?P<errno>[0-9]{{1,3}})|(?P<words>{_ERRNOS}))"  # noqa: E501
)
# fmt: off
# fmt: on
# A tracepoint says the same, and so do the sources; neither is a VMM's line.
_NOT_HERE: Final = re.compile(
    r"kvm_userspace_exit|^\s*(?:[-+#/*]|case |if |\d+:)|=>|==|#define|strace|\[pid +\d+\] ioctl|ioctl\(\d"
)
_NAMES: Final = (
    ("cloud-hypervisor", re.compile(r"cloud-hypervisor|VCPU generated error|vmm/src/cpu\.rs")),
    (
        "crosvm",
        re.compile(r"crosvm|unexpected vcpu exit:|vcpu hw run failure|vcpu hit unknown error|unknown kvm exit reason"),
    ),
    ("firecracker", re.compile(r"firecracker|fc_vcpu|vstate/vcpu", re.IGNORECASE)),
    ("libkrun", re.compile(r"krun")),
    ("uhyve", re.compile(r"uhyve|hermit|kvm_cpu\.rs|VcpuExitFailEntry", re.IGNORECASE)),
    ("kvmtool", re.compile(r"KVM exit (?:reason|code): |\blkvm\b|kvmtool")),
    ("dosemu2", re.compile(r"dosemu|ERROR: KVM_EXIT_")),
    ("qemu", re.compile(r"vm entry failed with error|qemu")),
)
_LOST: Final[dict[Kind, str]] = {
    "internal-error": "{vmm} prints neither KVM's words nor the registers; while its process lives, `kvmwhy attach PID`"
    " reads them, and a line in its error path that prints kvm_run.internal keeps them for the next time",
    "entry-failure": "{vmm} prints no registers; while its process lives, `kvmwhy attach PID` reads them, and the host's"  # noqa: E501
    " kernel dumps the control block if kvm_intel.dump_invalid_vmcs=1 or kvm_amd.dump_invalid_vmcb=1 is set",
}
_KEEPS_RUNNING: Final = "crosvm goes on to run a vCPU that KVM gave up on, so this line repeats without end"
_MOST: Final = 100_000
_KINDS: Final[dict[int, Kind]] = {
    0: "unknown-exit",
    1: "exception-exit",
    8: "shutdown",
    9: "entry-failure",
    17: "internal-error",
}


def detect(text: str) -> bool:
    return any(mark in text for mark in VMM_LINE)


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """Every such line, in order; registers that follow one are taken as its own if they are the only ones."""
    body = text.text
    failures: list[Failure] = []
    dumps = find_registers(body)
    host = None
    line, counted, end = first_line, 0, -1
    for found in _LINE.finditer(body):
        if found.start() < end:
            continue  # the same line says it twice: "Caused by"
        begin = body.rfind("\n", 0, found.start()) + 1
        stop = body.find("\n", found.start())
        stop = len(body) if stop < 0 else stop
        if stop - begin > 4096 or _NOT_HERE.search(body, begin, stop) or (stop == found.end() == len(body)):
            begin, stop = max(begin, found.start() - 200), min(stop, found.end() + 200)
            if _NOT_HERE.search(body, begin, stop):
                continue
        fields = _fields(found, failures)
        if fields is None:
            continue
        end = stop
        line += body.count("\n", counted, found.start())
        counted = found.start()
        host = host or host_of(body)
        vmm = _vmm(body, begin, stop)
        vcpu = fields.pop("vcpu", None)
        dump = _dump_of(dumps, found.start(), body)
        made = Failure(
            source=Source(path=path, line=line, vmm=vmm, vcpu=vcpu if vmm != "uhyve" else None),
            host=host,
            cpu=dump.cpu if dump else None,
            code=dump.code if dump else None,
            repairs=text.repairs,
            **fields,
        )
        failures.append(_with_advice(made, vmm))
        if len(failures) >= _MOST:
            break
    return Evidence(_distinct(failures), format="VMM line" if failures else None)


def _fields(found: re.Match[str], before: list[Failure]) -> dict[str, Any] | None:
    group = found.groupdict()

    def number(*names: str) -> int | None:
        text = next((group[name] for name in names if group[name] is not None), None)
        return None if text is None else int(text, 16 if text.startswith("0x") else 10)

    if (suberror := number("suberror", "bare")) is not None:
        return {"kind": "internal-error", "suberror": suberror, "exit_reason": 17} if suberror < 1 << 32 else None
    if (entry := number("entry", "debug", "signal", "crosvm")) is not None:
        cpu = number("signalcpu")
        return {"kind": "entry-failure", "hardware_error": entry & (1 << 64) - 1, "exit_reason": 9, "vcpu": cpu}
    if group["create"]:
        return {"kind": "other", "errno": "EBUSY"}
    if group["internal"]:
        return {"kind": "internal-error", "exit_reason": 17}
    if (reason := number("reason", "unknown")) is not None:
        return {"kind": _KINDS.get(reason, "other"), "exit_reason": reason}
    if (code := number("code")) is not None:
        if before and before[-1].kind == "unknown-exit" and before[-1].hardware_reason is None:
            import msgspec

            before[-1] = msgspec.structs.replace(before[-1], hardware_reason=code)
        return None
    errno = number("os", "rust", "errno")
    if errno is not None:
        return {"kind": "run-error", "errno": ERRNO_NUMBERS[errno]} if errno in ERRNO_NUMBERS else None
    return {"kind": "run-error", "errno": ERRNO[group["words"]]}


def _vmm(text: str, begin: int, stop: int) -> str | None:
    """Named by the line itself, else by what stands around it."""
    for start, end in ((begin, stop), (max(0, begin - 2000), stop + 500)):
        for name, mark in _NAMES:
            if mark.search(text, start, end):
                return name
    return None


def _dump_of(dumps: list[Registers], at: int, text: str) -> Registers | None:
    """Registers behind the line, if no other line of a failure stands between; or the only ones there are."""
    after = [dump for dump in dumps if dump.at >= at]
    if after and _LINE.search(text, text.find("\n", at) + 1 or at, after[0].at) is None:
        return after[0]
    return dumps[0] if len(dumps) == 1 else None


def _with_advice(failure: Failure, vmm: str | None) -> Failure:
    facts: list[str] = []
    if failure.errno == "EBUSY" and failure.kind == "other":
        facts.append("KVM_CREATE_VM failed: no VM was made, and no guest ran")
    if failure.cpu is None and failure.kind in _LOST and vmm != "qemu":
        facts.append(_LOST[failure.kind].format(vmm=vmm or "this VMM"))
    if vmm == "crosvm" and failure.kind == "internal-error":
        facts.append(_KEEPS_RUNNING)
    if not facts:
        return failure
    from msgspec.structs import replace

    told: Failure = replace(failure, host=replace(failure.host, facts=(*failure.host.facts, *facts)))
    return told


def _distinct(failures: list[Failure]) -> tuple[Failure, ...]:
    """A VMM that says one failure in two lines (the error, and what caused it) had one failure."""
    out: list[Failure] = []
    for failure in failures:
        last = out[-1] if out else None
        near = last is not None and (failure.source.line or 0) - (last.source.line or 0) <= 2
        if last and near and last.kind == failure.kind and last.hardware_error == failure.hardware_error:
            same_vcpu = None in {last.source.vcpu, failure.source.vcpu} or last.source.vcpu == failure.source.vcpu
            if same_vcpu and last.source.vmm == failure.source.vmm and last.source.vmm != "crosvm":
                continue
        out.append(failure)
    return tuple(out)

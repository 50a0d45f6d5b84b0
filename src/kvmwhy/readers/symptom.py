"""What a person sees of a failure whose record is elsewhere: a VM that is paused, a monitor that refuses ``cont``.

QEMU enters the run state ``internal-error`` when KVM_RUN fails or reports an internal error (accel/kvm/kvm-all.c:
kvm_cpu_exec; qapi/run-state.json). libvirt shows it as "paused (unknown)", other programs in words of their own. The
record itself went to QEMU's stderr: libvirt's /var/log/libvirt/qemu/NAME.log, Proxmox's journal, KubeVirt's
virt-launcher log. Slugs of ``Symptom.kind`` are the names in ``FORMS``.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.readers.host_context import host_of
from kvmwhy.record import Failure, Source, Symptom


class Form(NamedTuple):
    kind: str
    pattern: re.Pattern[str]
    anchors: tuple[str, ...]
    vmm: str | None
    source: str


def _form(kind: str, pattern: str, *anchors: str, vmm: str | None = "qemu", source: str) -> Form:
    return Form(kind, re.compile(pattern.replace(" ", r"[ \t]{1,8}(?:\n[ \t]{0,8})?")), anchors, vmm, source)


FORMS: Final[tuple[Form, ...]] = (
    _form(
        "internal-error-status",
        r"paused \(internal-error\)",
        "(internal-error)",
        source="QEMU monitor, info status: hmp_info_status",
    ),
    _form(
        "internal-error-status",
        r"\"(?:status|qmpstatus|runstate|state)\"\s{0,4}:\s{0,4}\"internal-error\""
        r"|\b(?:qmp)?status: ?internal-error\b|\brunstate[\x20=:]{1,3}internal-error\b"
        r"|guest failure: internal-error",
        "internal-error",
        source="QMP query-status; Proxmox qm status --verbose; Kata's qemu monitor",
    ),
    _form(
        "cont-refused",
        r"Resetting the Virtual Machine is required",
        "Resetting the Virtual Machine",
        source="QEMU qmp_cont: QERR_RESET_REQUIRED",
    ),
    _form(
        "paused-unknown",
        r"(?:\bpaused|\bPaused|\bPAUSED) ?\((?:unknown|Unknown)\)",
        "aused (unknown)",
        "aused (Unknown)",
        "aused(unknown)",
        vmm=None,
        source="libvirt virsh domstate --reason: VIR_DOMAIN_PAUSED_UNKNOWN",
    ),
    _form(
        "paused-unknown",
        r"(?:state(?:_reason)?|reason|Reason)['\"]?\s{0,3}[:=]\s{0,3}['\"]?(?:VIR_DOMAIN_PAUSED_UNKNOWN"
        r"|PausedUnknown|paused-unknown)|VIR_DOMAIN_PAUSED_UNKNOWN",
        "PAUSED_UNKNOWN",
        "PausedUnknown",
        "paused-unknown",
        vmm=None,
        source="libvirt's constants in the logs of programs that use it",
    ),
    _form(
        "paused-unexpectedly",
        r"(?:[Ii]nstance|VM|[Vv]irtual machine|[Gg]uest|[Dd]omain)\b[^\n]{0,80}? (?:is|was|has been"
        r"|got) paused unexpectedly",
        "paused unexpectedly",
        vmm=None,
        source="OpenStack nova/compute/manager.py: _sync_instance_power_state",
    ),
    _form(
        "paused-unexpectedly",
        r"VM [^\n]{1,80} (?:has been|was) paused due to (?:unknown|an unknown|internal) [^\n]{0,30}?error"
        r"|abnormal(?:ly)? stopped[^\n]{0,40}internal[- ]error|onIOError[^\n]{0,20}internal-error",
        "paused due to",
        "internal-error",
        "internal error",
        vmm=None,
        source="oVirt engine and vdsm",
    ),
    _form(
        "stop-event",
        r"\"event\"\s{0,3}:\s{0,3}\"STOP\"(?=[^\n]{0,2000}(?:internal-error|INTERNAL_ERROR)"
        r"|(?:[^\n]{0,400}\n){1,12}?[^\n]{0,400}\"internal-error\")",
        '"STOP"',
        source="QMP",
    ),
    _form(
        "gvisor-stuck",
        r"\bVCPU [0-9]{1,5} is stuck:",
        "is stuck:",
        vmm="gvisor",
        source="gVisor pkg/sentry/platform/kvm/machine.go: Destroy",
    ),
    _form(
        "gvisor-trace",
        r"sentry/platform/kvm\.\(\*(?:vCPU|machine|context)\)\.[A-Za-z]{2,40}\(",
        "platform/kvm.(*",
        vmm="gvisor",
        source="Go's traceback of a sentry: pkg/sentry/platform/kvm",
    ),
)
FORMAT: Final = "symptom"
# Where the words are explained, defined or looked for, they are no symptom.
_NOT_HERE: Final = re.compile(
    r"==|!=|#define|\benum\b|@internal-error|\bgrep\b|\bcase\b|QERR_|\bif\b[^\n]{0,40}\("
    r"|`internal-error`"
)
_MOST: Final = 1000


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """One record for each kind of symptom: what a monitor repeats is one state of one VM."""
    body = text.text
    seen: dict[str, Failure] = {}
    for form in FORMS:
        if not any(anchor in body for anchor in form.anchors):
            continue
        for n, match in enumerate(form.pattern.finditer(body)):
            begin = max(body.rfind("\n", 0, match.start()) + 1, match.start() - 400)
            if n >= _MOST or _NOT_HERE.search(body, begin, match.end()):
                continue
            line = first_line + body.count("\n", 0, match.start())
            first = seen.get(form.kind)
            if first is None:
                source = Source(path=path, line=line, vmm=form.vmm)
                seen[form.kind] = Failure(
                    kind="symptom",
                    source=source,
                    symptom=Symptom(kind=form.kind),
                    seen_at={"symptom": line},
                    host=host_of(body),
                    repairs=text.repairs,
                )
            break
    failures = sorted(seen.values(), key=lambda failure: failure.source.line or 0)
    return Evidence(_one_story(failures), format=FORMAT if failures else None)


# What says most first: a status names the state, a refused command and "unknown" follow from it.
_RANK: Final = (
    *("internal-error-status", "stop-event", "cont-refused", "paused-unknown", "paused-unexpectedly"),
    *("gvisor-stuck", "gvisor-trace"),
)


def _one_story(failures: list[Failure]) -> tuple[Failure, ...]:
    """Symptoms beside each other are of one VM: the one that says most, with the others named."""
    if len(failures) < 2:
        return tuple(failures)
    kinds = {failure.symptom.kind: failure for failure in failures if failure.symptom}
    shown = [kind for kind in _RANK if kind in kinds]
    from msgspec.structs import replace

    symptom = Symptom(kind=shown[0], fields={"beside": " ".join(shown[1:])})
    story: Failure = replace(kinds[shown[0]], symptom=symptom)
    return (story,)

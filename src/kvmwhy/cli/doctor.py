"""``kvmwhy doctor``: the host, as far as a diagnosis depends on it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import msgspec

from kvmwhy.abi.capabilities import known_capabilities
from kvmwhy.cli.output import show, width
from kvmwhy.cli.status import DONE, NOT_PERMITTED
from kvmwhy.live.doctor import Checkup, Finding, check_up
from kvmwhy.render.page import Line, Style, fold
from kvmwhy.render.safe import safe

if TYPE_CHECKING:
    from kvmwhy.outputs import CheckedHost


_STYLES: Final[dict[str, Style]] = {"good": "good", "note": "plain", "bad": "bad"}
_MARKS: Final = {"bad": "! ", "note": "· ", "good": "+ "}  # worst first
_MOST_LINES: Final = 15


def run(*, as_json: bool, tracefs: str | None, verbose: bool) -> int:
    """Print the check-up; return the exit status."""
    checkup = check_up(tracefs)
    if as_json:
        sys.stdout.write(msgspec.json.encode(_object(checkup)).decode() + "\n")
    else:
        show(_page(checkup) if verbose else brief(checkup, width()))
    return NOT_PERMITTED if checkup.device.problem else DONE


def brief(checkup: Checkup, columns: int) -> list[Line]:
    """At most 15 lines: the answer, what is bad and what is worth knowing, the worst first, and what is fine in one."""
    lines = [Line(_answer(checkup), "answer")]
    good = [finding.topic for finding in checkup.findings if finding.grade == "good"]
    last = [Line(f"fine: {', '.join(dict.fromkeys(good))}; all of it: kvmwhy doctor -v", "dim", indent=2)]
    room = _MOST_LINES - _rows(lines + last, columns)
    findings = [finding for finding in _worst_first(checkup) if finding.grade != "good"]
    for n, finding in enumerate(findings):
        block = _finding(finding)
        is_last = n == len(findings) - 1
        if _rows(block, columns) > room - (not is_last):
            lines.append(Line(f"and {len(findings) - n} more", "plain", "· ", 2))
            break
        lines += block
        room -= _rows(block, columns)
    return lines + last


def _rows(lines: list[Line], columns: int) -> int:
    return sum(len(fold(line, columns)) for line in lines)


def _worst_first(checkup: Checkup) -> list[Finding]:
    return sorted(checkup.findings, key=lambda finding: list(_MARKS).index(finding.grade))


def _finding(finding: Finding) -> list[Line]:
    style = _STYLES[finding.grade]
    lines = [Line(safe(finding.text), style, _MARKS[finding.grade], 2, style)]
    if finding.fix:
        lines.append(Line(safe(finding.fix), "plain", "fix: ", 4))
    return lines


def _answer(checkup: Checkup) -> str:
    bad = sum(finding.grade == "bad" for finding in checkup.findings)
    if not bad:
        return f"Nothing stands in the way of a diagnosis here (Linux {safe(checkup.kernel)})."
    count = "One thing stands" if bad == 1 else f"{bad} things stand"
    return f"{count} in the way here (Linux {safe(checkup.kernel)})."


def _page(checkup: Checkup) -> list[Line]:
    """Everything."""
    lines = [Line(_answer(checkup), "answer")]
    for finding in _worst_first(checkup):
        lines += _finding(finding)
    lines += [Line(), Line(style="head", label="Parameters of KVM's modules", label_style="head")]
    for module in checkup.modules:
        values = " ".join(f"{name}={'?' if value is None else value}" for name, value in module.parameters.items())
        lines.append(Line(safe(values, 2000), "dim", f"{module.name}  ", 2))
    if checkup.device.capabilities:
        lines += [Line(), Line(style="head", label="What this KVM can do", label_style="head")]
        for name, value in checkup.device.capabilities.items():
            lines.append(Line(f"{value:<8} {known_capabilities()[name].args}", "plain", f"{name:<36} ", 2))
    return lines


def _object(checkup: Checkup) -> CheckedHost:
    from kvmwhy.outputs import CheckedHost, FindingPart, HostCpu, HostKvm, HostModule

    cpu, device = checkup.cpu, checkup.device
    return CheckedHost(
        schema=1,
        kernel=safe(checkup.kernel),
        vendor=checkup.vendor,
        cpu=HostCpu(
            vendor_id=cpu.vendor_id,
            model=cpu.model,
            signature=cpu.signature,
            microcode=cpu.microcode,
            hypervisor=cpu.hypervisor,
        ),
        modules={m.name: HostModule(version=m.version, parameters=m.parameters) for m in checkup.modules},
        kvm=HostKvm(problem=device.problem, api_version=device.api_version, capabilities=device.capabilities),
        findings=[FindingPart(**finding._asdict()) for finding in checkup.findings],
    )

"""``kvmwhy doctor``: the host, as far as a diagnosis depends on it."""

from __future__ import annotations

import sys
from typing import Any, Final

import msgspec

from kvmwhy.abi.ioctl import CAPABILITIES
from kvmwhy.cli.output import show
from kvmwhy.live.doctor import Checkup, Finding, check_up
from kvmwhy.render.page import Line, Style
from kvmwhy.render.safe import safe

DONE: Final = 0
NOTHING_TO_ASK: Final = 3  # not permitted, or no /dev/kvm

_STYLES: Final[dict[str, Style]] = {"good": "good", "note": "plain", "bad": "bad"}
_MARKS: Final = {"good": "+ ", "note": "· ", "bad": "! "}


def run(*, as_json: bool, tracefs: str | None) -> int:
    """Print the check-up; return the exit status."""
    checkup = check_up(tracefs)
    if as_json:
        sys.stdout.write(msgspec.json.encode(_object(checkup)).decode() + "\n")
    else:
        show(_page(checkup))
    return NOTHING_TO_ASK if checkup.device.problem else DONE


def _page(checkup: Checkup) -> list[Line]:
    bad = [finding for finding in checkup.findings if finding.grade == "bad"]
    answer = "Nothing stands in the way of a diagnosis here." if not bad else _count(bad)
    lines = [Line(answer, "answer"), Line(), Line(safe(f"Linux {checkup.kernel}"), indent=2)]
    for module in checkup.modules:
        values = " ".join(f"{name}={'?' if value is None else value}" for name, value in module.parameters.items())
        lines.append(Line(safe(values, 2000), "dim", f"{module.name}  ", 2))
    lines += [Line(), Line(style="head", label="Findings", label_style="head")]
    for finding in sorted(checkup.findings, key=lambda f: list(_MARKS).index(f.grade), reverse=True):
        style = _STYLES[finding.grade]
        lines.append(Line(safe(finding.text), style, _MARKS[finding.grade], 2, style))
        if finding.fix:
            lines.append(Line(safe(finding.fix), "plain", "change: ", 4))
    if checkup.device.capabilities:
        lines += [Line(), Line(style="head", label="What this KVM can do", label_style="head")]
        for name, value in checkup.device.capabilities.items():
            lines.append(Line(f"{value:<8} {CAPABILITIES[name].args}", "plain", f"{name:<36} ", 2))
    return lines


def _count(bad: list[Finding]) -> str:
    return f"{'One thing stands' if len(bad) == 1 else f'{len(bad)} things stand'} in the way here: " + "; ".join(
        safe(finding.text) for finding in bad
    )


def _object(checkup: Checkup) -> dict[str, Any]:
    cpu = checkup.cpu
    return {
        "schema": 1,
        "kernel": safe(checkup.kernel),
        "vendor": checkup.vendor,
        "cpu": {
            "vendor_id": cpu.vendor_id,
            "model": cpu.model,
            "signature": cpu.signature,
            "microcode": cpu.microcode,
            "hypervisor": cpu.hypervisor,
        },
        "modules": {m.name: {"version": m.version, "parameters": m.parameters} for m in checkup.modules},
        "kvm": {
            "problem": checkup.device.problem,
            "api_version": checkup.device.api_version,
            "capabilities": checkup.device.capabilities,
        },
        "findings": [finding._asdict() for finding in checkup.findings],
    }

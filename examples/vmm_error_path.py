"""For the author of a VMM: explain a failed vCPU in the VMM's own error path, in Python.

A VMM in another language writes one line of JSON instead (`kvmwhy spec c`, `rust`, `go`), and whoever reads its log has
`kvmwhy explain`. Run it: python examples/vmm_error_path.py
"""

from __future__ import annotations

import sys

import kvmwhy
from kvmwhy.testing import fetch_failure_page


def report(page: bytes, vcpu: int, *, error: int = 0) -> str:
    """What goes to the log when KVM_RUN returned an exit that this VMM cannot handle, or failed with errno."""
    diagnosis = kvmwhy.diagnose(kvmwhy.decode_page(page, error=error, vmm="my-vmm", vcpu=vcpu))
    lines = [f"my-vmm: vCPU {vcpu}: {diagnosis.answer}"]
    lines += [f"my-vmm: what the {advice.role} can do: {advice.text}" for advice in diagnosis.advice[:2]]
    lines.append(f"my-vmm: record: {kvmwhy.to_json(diagnosis).decode()}")
    return "\n".join(lines)


if __name__ == "__main__":
    # A real VMM hands over the mapping of its vCPU: report(bytes(run_mapping), index).
    sys.stdout.write(report(fetch_failure_page(0xB0000), 3) + "\n")

"""What kvmwhy itself needs on a host: tracefs, other processes' memory, the kernel's log, and its own extras."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

from kvmwhy.abi.uname import arch_of
from kvmwhy.live import tracefs as tracing
from kvmwhy.live.doctor.finding import Finding
from kvmwhy.live.errors import CaptureError
from kvmwhy.live.host import read_text

_CAP_SYS_PTRACE: Final = 19
_IS_X86: Final = arch_of(platform.machine()) == "x86"
_IN_THE_LOG: Final = "where the VMCS of a failed entry is" if _IS_X86 else "where KVM says why it gave up"
_CAP_SYSLOG: Final = 34
# extra of pyproject.toml: (the module that it brings, what it is for)
_EXTRAS: Final = {
    "model": ("unicorn", "guests on a model of KVM (run, reproduce)"),
    "fleet": ("duckdb", "tables of many failures (scan to Parquet, triage)"),
    "cluster": ("distributed", "scan and triage on a Dask cluster"),
}


def of_tracefs(given: str | None) -> Iterator[Finding]:
    try:
        root = tracing.find_root(given)
    except CaptureError as error:
        yield Finding("tracefs", "bad", f"`kvmwhy watch` cannot work: {error}")
        return
    # One without a filter is new in some kernel (kvm_mmio_nisv: 6.7), and older ones do without.
    needed = [name for name, condition in tracing.FAILURES.items() if condition is not None]
    missing = [name for name in needed if not os.path.isdir(f"{root}/events/kvm/{name}")]
    if missing:
        yield Finding("tracefs", "bad", f"{root} has no KVM events ({', '.join(missing)})", "load KVM's modules")
    elif not os.access(f"{root}/instances", os.W_OK):
        yield Finding(
            "tracefs",
            "bad",
            f"no write access to {root}/instances",
            "run `kvmwhy watch` with CAP_DAC_OVERRIDE, as docs/capture.md sets it up",
        )
    else:
        yield Finding("tracefs", "good", f"{root} may be used, with KVM's events")
    lockdown = re.search(r"\[(\w+)\]", read_text("/sys/kernel/security/lockdown") or "")
    if lockdown and lockdown[1] == "confidentiality":
        yield Finding("tracefs", "bad", "the kernel is locked down for confidentiality: no tracing at all")


def of_memory() -> Iterator[Finding]:
    may_trace = _has(_CAP_SYS_PTRACE)
    scope = read_text("/proc/sys/kernel/yama/ptrace_scope")
    if may_trace and scope != "3":
        yield Finding("memory", "good", "pages of any VMM may be read (CAP_SYS_PTRACE)")
    elif scope in {None, "0"}:
        yield Finding("memory", "note", "pages of your own VMMs may be read; others take CAP_SYS_PTRACE")
    elif scope == "3":
        yield Finding("memory", "bad", "kernel.yama.ptrace_scope=3: nobody reads another process before a reboot")
    else:
        yield Finding(
            "memory",
            "bad",
            f"kernel.yama.ptrace_scope={scope}: `kvmwhy attach` and `watch` cannot read a VMM's pages",
            "run it with CAP_SYS_PTRACE",
        )
    if re.search(
        r"^\S+ /proc proc \S*hidepid=(?:[124]|\w*invis)", read_text("/proc/mounts", 1 << 20) or "", re.MULTILINE
    ):
        yield Finding("memory", "note", "/proc is mounted with hidepid: processes of others may not be seen")


def of_kernel_log(path: str = "/proc/sys/kernel/dmesg_restrict") -> Iterator[Finding]:
    """What KVM says of a failed entry or access, and much of what the host itself went through, is only there."""
    if read_text(path) == "1" and not _has(_CAP_SYSLOG):
        yield Finding(
            "kernel-log",
            "note",
            f"kernel.dmesg_restrict=1: the kernel's log, {_IN_THE_LOG}, may not be read",
            "sudo dmesg | kvmwhy explain - guest.log",
        )
    else:
        yield Finding("kernel-log", "good", "the kernel's log may be read")


def of_extras() -> Iterator[Finding]:
    missing = [name for name, (module, _) in _EXTRAS.items() if find_spec(module) is None]
    if not missing:
        yield Finding("extras", "good", "every extra of kvmwhy is installed")
        return
    what = "; ".join(_EXTRAS[name][1] for name in missing)
    yield Finding("extras", "note", f"not installed: {what}", f"pip install 'kvmwhy[{','.join(missing)}]'")


def _has(capability: int) -> bool:
    status = read_text("/proc/self/status", 16 << 10) or ""
    effective = re.search(r"^CapEff:\s([0-9a-f]{16})$", status, re.MULTILINE)
    return bool(effective and int(effective[1], 16) >> capability & 1)

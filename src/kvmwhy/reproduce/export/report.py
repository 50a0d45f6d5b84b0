"""A plain-text mail for a kernel list: what failed, where, how to see it, what happened before."""

from __future__ import annotations

import re
import textwrap
from typing import Final

from kvmwhy.abi.internal_error import SUBERRORS
from kvmwhy.diagnosis.facts import gather
from kvmwhy.record import Failure
from kvmwhy.reproduce.export import c
from kvmwhy.reproduce.guest_plan import Plan
from kvmwhy.reproduce.outcome import Outcome

WIDTH: Final = 75
_TRACE: Final = 20
_PRINTABLE: Final = re.compile(r"[^\x20-\x7e]")


def write(plan: Plan, failure: Failure, outcome: Outcome | None = None) -> str:
    """The mail's body, without a header. Its rows have at most 75 columns, but for the program's."""
    parts = [
        _subject(plan, failure),
        _section("Host", _host(failure)),
        _section("Guest", _guest(plan, failure)),
        _section("Failure", _failure(failure)),
        _section("Instruction", _instruction(plan)),
        _section("Reproducer", _reproducer(outcome)),
        _section("Assumed", [*(outcome.assumed if outcome else plan.assumed)]),
        _section("Before it", _trace(failure)),
    ]
    text = "\n".join(part for part in parts if part)
    return f"{text}\n--- >8 --- reproduce.c ---\n{c.write(plan)}"


def _clean(text: str) -> str:
    return _PRINTABLE.sub("?", text)


def _section(title: str, rows: list[str]) -> str:
    """A title and its rows, folded; nothing where there is nothing to say."""
    if not rows:
        return ""
    folded = []
    for row in rows:
        folded += textwrap.wrap(_clean(row), WIDTH - 2, subsequent_indent="  ") or [""]
    return "\n".join([f"{title}:", *(f"  {row}" for row in folded), ""])


def _subject(plan: Plan, failure: Failure) -> str:
    number = "" if failure.hardware_error is None else f", {failure.hardware_error:#x}"
    what = {
        "internal-error": f"KVM internal error, suberror {failure.suberror}",
        "entry-failure": f"VM entry failed{number}",
    }.get(failure.kind, f"KVM: {failure.kind}")
    at = f", at {plan.text}" if plan.text else f", RIP {plan.rip:#x}"
    return textwrap.shorten(_clean(f"Subject: {what}{at}"), WIDTH) + "\n"


def _host(failure: Failure) -> list[str]:
    host = failure.host
    rows = [f"kernel {host.kernel}"] if host.kernel else ["kernel: not in the report"]
    facts = gather(failure)
    rows.append(f"vendor: {facts.vendor.vendor or 'not known'} ({facts.vendor.why})")
    if host.qemu:
        rows.append(f"QEMU {host.qemu}")
    elif failure.source.vmm:
        rows.append(f"VMM: {failure.source.vmm}")
    return rows


def _guest(plan: Plan, failure: Failure) -> list[str]:
    rows = [f"{plan.mode}, CPL {plan.sregs.ss.dpl if plan.sregs.cr0 & 1 else 0}, RIP {plan.rip:#x} (linear)"]
    sregs = plan.sregs
    rows.append(f"CR0 {sregs.cr0:#x} CR2 {sregs.cr2:#x} CR3 {sregs.cr3:#x} CR4 {sregs.cr4:#x} EFER {sregs.efer:#x}")
    if failure.host.ram_bytes:
        rows.append(f"RAM {failure.host.ram_bytes >> 20} MiB")
    rows += [f"no memory for {hole.what}: linear {hole.linear:#x}, GPA {hole.gpa:#x}" for hole in plan.holes]
    return rows


def _failure(failure: Failure) -> list[str]:
    if failure.kind == "internal-error":
        name = SUBERRORS.get(failure.suberror or 0, "unknown")
        rows = [f"KVM_EXIT_INTERNAL_ERROR, suberror {failure.suberror} ({name}), ndata {failure.ndata}"]
        return rows + [f"data[{n}] = 0x{word:016x}" for n, word in enumerate(failure.data)]
    if failure.hardware_error is not None:
        return [f"KVM_EXIT_FAIL_ENTRY, hardware entry failure reason {failure.hardware_error:#x}"]
    return [failure.kind]


def _instruction(plan: Plan) -> list[str]:
    return [f"{plan.insn.hex(' ')}    {plan.text}"] if plan.insn and plan.text else []


def _reproducer(outcome: Outcome | None) -> list[str]:
    rows = ["The program below needs <linux/kvm.h> only. It exits with 0 if the failure shows."]
    if outcome is not None:
        rows.append(outcome.answer)
        if outcome.since:
            rows.append(outcome.since)
    return rows


def _trace(failure: Failure) -> list[str]:
    rows = []
    for event in failure.trace[-_TRACE:]:
        time = "" if event.time is None else f"{event.time:.6f} "
        fields = " ".join(f"{k} {v:#x}" if isinstance(v, int) else f"{k} {v}" for k, v in event.fields.items())
        rows.append(f"{time}{event.name}: {fields}")
    return rows

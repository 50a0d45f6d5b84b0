"""A verdict of ``kvmwhy reproduce`` for people and for programs."""

from __future__ import annotations

import sys
from typing import Any, cast

import msgspec

from kvmwhy.cli.output import show
from kvmwhy.record import Failure
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe
from kvmwhy.reproduce import Outcome, Plan


def print_outcome(failure: Failure, outcome: Outcome, *, as_json: bool, extra: list[str] | None = None) -> None:
    """One verdict, as a page or as a line of JSON; ``extra`` says what was left out."""
    if as_json:
        write_json({**_json(outcome), "failure": source_of(failure), "minimised": extra or []})
        return
    lines = [Line(safe(outcome.answer), "answer")]
    if outcome.plan is not None:
        lines += [Line(), *_guest(outcome.plan)]
    if outcome.ended is not None and outcome.ended.exits:
        exits = outcome.ended.exits
        shown = "; ".join(exits[:6]) + (f"; … {len(exits)} in all" if len(exits) > 6 else "")
        lines.append(Line(safe(shown), "plain", "exits     ", 2))
    for row in outcome.rows:
        mark, style = {True: ("= ", "good"), False: ("! ", "bad"), None: ("? ", "dim")}[row.same]
        text = f"{row.what}: {row.reported}" if row.same else f"{row.what}: reported {row.reported}, here {row.here}"
        if not row.reported:
            text = f"{row.what}: {row.here}"
        text += f" ({row.why})" if row.why else ""
        lines.append(Line(safe(text), "plain", mark, 2, cast("Any", style)))
    lines += [Line(safe(outcome.since), "plain", "emulator  ", 2)] if outcome.since else []
    lines += [Line(safe(text), "plain", "assumed   ", 2) for text in outcome.assumed]
    lines += [Line(safe(text), "plain", "minimised ", 2) for text in extra or []]
    where, expected = outcome.where, outcome.plan.expected.vendor if outcome.plan else None
    if outcome.status == "not-on-this-kernel" and where and where.vendor not in {expected, None} and expected:
        text = (
            f"the report is of {expected}, this machine is {where.vendor}: --on model runs it on the report's own kind"
        )
        lines.append(Line(text, "dim", "try       ", 2))
    show(lines)


def _guest(plan: Plan) -> list[Line]:
    size = sum(ram.size for ram in plan.memory)
    text = f"{plan.mode}, {size >> 10} KiB in {len(plan.memory)} pieces, RIP {plan.rip:#x} (linear)"
    lines = [Line(text, "plain", "guest     ", 2)]
    if plan.insn:
        code = f"{plan.insn.hex(' ')}    {plan.text or '(not decoded)'}"
        lines.append(Line(safe(code), "plain", "code      ", 2))
    for hole in plan.holes:
        text = f"{hole.what}: linear {hole.linear:#x}, guest physical {hole.gpa:#x}"
        lines.append(Line(safe(text), "plain", "no memory ", 2))
    return lines


def _json(outcome: Outcome) -> dict[str, Any]:
    planned, ended = outcome.plan, outcome.ended
    return {
        "schema": 1,
        "status": outcome.status,
        "answer": safe(outcome.answer),
        "exact": outcome.exact,
        "where": None if outcome.where is None else msgspec.to_builtins(outcome.where),
        "rows": [
            {k: safe(v) if isinstance(v, str) else v for k, v in msgspec.structs.asdict(row).items()}
            for row in outcome.rows
        ],
        "since": outcome.since,
        "missing": list(outcome.missing),
        "assumed": [safe(text) for text in outcome.assumed],
        "guest": None if planned is None else _json_guest(planned),
        "ended": None if ended is None else {**_hexed(msgspec.structs.asdict(ended))},
    }


def _json_guest(plan: Plan) -> dict[str, Any]:
    return {
        "mode": plan.mode,
        "rip": hex(plan.rip),
        "instruction": {"bytes": plan.insn.hex(" "), "text": plan.text},
        "holes": [_hexed(msgspec.structs.asdict(hole)) for hole in plan.holes],
        "memory": [_hexed(msgspec.structs.asdict(ram)) for ram in plan.memory],
        "contents": [{"gpa": hex(c.gpa), "data": c.data.hex()} for c in plan.contents],
        "regs": _hexed(msgspec.structs.asdict(plan.regs)),
        "sregs": _hexed(msgspec.to_builtins(plan.sregs)),
        "events": None if plan.events is None else _hexed(msgspec.structs.asdict(plan.events)),
        "cap204": plan.cap204,
    }


def _hexed(value: Any) -> Any:
    """Every number as a ``0x`` string, small counts too: one rule for the reader."""
    if isinstance(value, dict):
        return {k: _hexed(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hexed(v) for v in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value)
    return safe(value) if isinstance(value, str) else value


def source_of(failure: Failure) -> dict[str, Any]:
    """Which failure of which file it was."""
    source = failure.source
    return {
        "kind": failure.kind,
        "suberror": failure.suberror,
        "data": [hex(word) for word in failure.data],
        "path": None if source.path is None else safe(source.path),
        "line": source.line,
    }


def write_json(value: dict[str, Any]) -> None:
    """One line."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")

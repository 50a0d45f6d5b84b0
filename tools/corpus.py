"""Labelled public reports: one folder each, ``evidence.txt`` and its label ``case.json``.

Their texts are other people's and are no part of this repository: ``KVMWHY_CORPUS`` names their directory, by default
``../shared/corpus`` beside the checkout.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

DEFAULT: Final = Path(os.environ.get("KVMWHY_CORPUS") or Path(__file__).parent.parent.parent / "shared" / "corpus")


class Report(NamedTuple):
    """One report with its label. ``bug`` is the same for reports of one bug."""

    id: str
    bug: str
    mechanism: str
    origin: str
    decidable: str
    label: dict[str, Any]
    evidence: bytes

    @property
    def known(self) -> bool:
        return self.origin != "unknown"


def load(directory: Path = DEFAULT) -> list[Report]:
    """Every report below ``directory``, in the order of their names."""
    labels = {path.parent: json.loads(path.read_text()) for path in sorted(directory.glob("*/case.json"))}
    bugs = _bugs(labels.values())
    return [
        Report(
            folder.name,
            bugs[label["id"]],
            label["mechanism"],
            label["origin"],
            label["decidable"],
            label,
            (folder / "evidence.txt").read_bytes(),
        )
        for folder, label in labels.items()
    ]


def digest(reports: Iterable[Report]) -> str:
    """Of all labels and texts: which corpus a figure belongs to."""
    out = hashlib.sha256()
    for report in reports:
        out.update(json.dumps(report.label, sort_keys=True).encode() + b"\0" + report.evidence + b"\0")
    return out.hexdigest()[:16]


def counts(reports: Iterable[Report]) -> dict[str, Counter[str]]:
    """How many reports of each mechanism have which origin; unknown origins are not counted."""
    out: dict[str, Counter[str]] = {}
    for report in reports:
        if report.known:
            out.setdefault(report.mechanism, Counter())[report.origin] += 1
    return out


def _bugs(labels: Iterable[dict[str, Any]]) -> dict[str, str]:
    """The name of each report's bug: reports that say ``same_as`` of each other, or have one fix, share it."""
    labels = list(labels)
    parent = {label["id"]: label["id"] for label in labels}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    fixes: dict[str, str] = {}
    for label in labels:
        others = [other for other in label.get("same_as") or () if other in parent]
        if fix := _commit(label.get("fix")):
            others.append(fixes.setdefault(fix, label["id"]))
        for other in others:
            parent[root(label["id"])] = root(other)
    return {name: root(name) for name in parent}


def _commit(fix: str | None) -> str | None:
    """The commit that a fix names."""
    words = (fix or "").replace("(", " ").replace(")", " ").split()
    return next((word[:10] for word in words if len(word) >= 10 and set(word) <= set("0123456789abcdef")), None)

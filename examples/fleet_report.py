"""For whoever runs many hosts: count the failures in logs by what happened and whose doing it most likely was.

Run it: python examples/fleet_report.py LOG... For gigabytes, `kvmwhy scan` and `kvmwhy triage` do the same faster.
"""

from __future__ import annotations

import sys
from collections import Counter

import kvmwhy


def report(paths: list[str]) -> str:
    """One line for each kind of failure, the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    answers: dict[tuple[str, str], str] = {}
    for path in paths:
        try:
            diagnoses = kvmwhy.explain(path, remark=_remark)
        except OSError as error:
            _remark(str(error))
            continue
        for diagnosis in diagnoses:
            if diagnosis.mechanism is None or not diagnosis.origins:
                continue
            kind = diagnosis.mechanism.id, diagnosis.origins[0].id
            counts[kind] += diagnosis.failure.source.count
            answers.setdefault(kind, diagnosis.answer)
    return "".join(
        f"{count:6}  {mechanism}, likely {origin}: {answers[mechanism, origin]}\n"
        for (mechanism, origin), count in counts.most_common()
    )


def _remark(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


if __name__ == "__main__":
    sys.stdout.write(report(sys.argv[1:]))

"""Counters of the server in Prometheus' text format. Labels have values of fixed lists only."""

from __future__ import annotations

from collections import Counter
from typing import Final

_BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One event loop counts and shows."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # by route and status
        self.failures = 0
        self.bytes = 0
        self.gave_up = 0
        self.unable = 0
        self.waiting = 0
        self._buckets = [0] * len(_BOUNDS)
        self._seconds, self._explained = 0.0, 0

    def explained(self, seconds: float, failures: int) -> None:
        """An explanation was made."""
        self.failures += failures
        self._seconds += seconds
        self._explained += 1
        for n, bound in enumerate(_BOUNDS):
            self._buckets[n] += seconds <= bound

    def text(self, kept: int) -> str:
        lines = ["# TYPE kvmwhy_serve_requests_total counter"]
        lines += [
            f'kvmwhy_serve_requests_total{{route="{route}",status="{status}"}} {count}'
            for (route, status), count in sorted(self.requests.items())
        ]
        for name, kind, value in (
            ("failures_total", "counter", self.failures),
            ("body_bytes_total", "counter", self.bytes),
            ("gave_up_total", "counter", self.gave_up),
            ("unable_total", "counter", self.unable),
            ("waiting", "gauge", self.waiting),
            ("kept_records", "gauge", kept),
        ):
            lines += [f"# TYPE kvmwhy_serve_{name} {kind}", f"kvmwhy_serve_{name} {value}"]
        lines.append("# TYPE kvmwhy_serve_explain_seconds histogram")
        lines += [
            f'kvmwhy_serve_explain_seconds_bucket{{le="{bound}"}} {count}'
            for bound, count in zip(_BOUNDS, self._buckets, strict=True)
        ]
        lines += [
            f'kvmwhy_serve_explain_seconds_bucket{{le="+Inf"}} {self._explained}',
            f"kvmwhy_serve_explain_seconds_sum {self._seconds:.6f}",
            f"kvmwhy_serve_explain_seconds_count {self._explained}",
        ]
        return "\n".join(lines) + "\n"

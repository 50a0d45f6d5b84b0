"""Counters of a watch in Prometheus' text format: as a file for node-exporter, and over HTTP.

Labels take values from fixed lists only (kinds, suberrors, causes): no guest can make new series.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from kvmwhy.live.errors import CaptureError, NotPermittedError
from kvmwhy.whole_file import write_whole

_HELP: Final = {
    "kvmwhy_failures_total": ("counter", "Failures of vCPUs, by kind, suberror, and whether a VMM heard of it."),
    "kvmwhy_causes_total": ("counter", "Failures by the best finding of their diagnosis."),
    "kvmwhy_lost_events_total": ("counter", "Trace events that the kernel had no room for."),
    "kvmwhy_records_total": ("counter", "Records written."),
    "kvmwhy_records_dropped_total": ("counter", "Records given up because the disk stayed full."),
    "kvmwhy_records_waiting": ("gauge", "Records that wait for room on the disk."),
    "kvmwhy_delay_seconds": ("summary", "Time from failure to record."),
    "kvmwhy_insn_emulation_fail_total": (
        "counter",
        "KVM's own count of failed emulations since the watch began, silent ones included.",
    ),
    "kvmwhy_insn_emulation_fail_vms": ("gauge", "VMs whose count is in it; 0: it is not available here."),
    "kvmwhy_last_failure_timestamp_seconds": ("gauge", "When the last failure was seen; 0: never."),
    "kvmwhy_start_timestamp_seconds": ("gauge", "When this watch began."),
}


# A series that appears with its first failure would have no increase then: these are there from the start.
_FROM_THE_START: Final = (
    *(("internal-error", suberror, "false") for suberror in ("", "1", "2", "3", "4")),
    *((kind, "", "false") for kind in ("entry-failure", "exception-exit", "run-error", "shutdown", "unknown-exit")),
    *(("other", "", silent) for silent in ("false", "true")),
)


class Metrics:
    """Thread-safe: one thread counts, another serves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: Counter[tuple[str, str, str]] = Counter(dict.fromkeys(_FROM_THE_START, 0))
        self._causes: Counter[str] = Counter()
        self._plain: dict[str, float] = dict.fromkeys((n for n in list(_HELP)[2:] if _HELP[n][0] != "summary"), 0)
        self._delay_sum, self._delay_count = 0.0, 0
        self._plain["kvmwhy_start_timestamp_seconds"] = time.time()

    def count(self, *, kind: str, suberror: int | None, silent: bool, cause: str | None, times: int = 1) -> None:
        with self._lock:
            self._failures[kind, "" if suberror is None else str(suberror), "true" if silent else "false"] += times
            if cause:
                self._causes[cause] += times
            self._plain["kvmwhy_last_failure_timestamp_seconds"] = time.time()

    def delay(self, seconds: float) -> None:
        with self._lock:
            self._delay_sum += seconds
            self._delay_count += 1

    def set(self, **values: float) -> None:
        """``lost_events_total=3`` and so on, without the prefix."""
        with self._lock:
            for name, value in values.items():
                self._plain[f"kvmwhy_{name}"] = value

    def text(self) -> str:
        with self._lock:
            samples = {name: [f"{name} {_number(value)}"] for name, value in self._plain.items()}
            samples["kvmwhy_delay_seconds"] = [
                f"kvmwhy_delay_seconds_sum {_number(self._delay_sum)}",
                f"kvmwhy_delay_seconds_count {self._delay_count}",
            ]
            samples["kvmwhy_failures_total"] = [
                f'kvmwhy_failures_total{{kind="{k}",suberror="{s}",silent="{q}"}} {n}'
                for (k, s, q), n in sorted(self._failures.items())
            ]
            samples["kvmwhy_causes_total"] = [
                f'kvmwhy_causes_total{{cause="{c}"}} {n}' for c, n in sorted(self._causes.items())
            ]
        lines = []
        for name, (kind, what) in _HELP.items():
            lines += [f"# HELP {name} {what}", f"# TYPE {name} {kind}", *samples[name]]
        return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.6f}"


def write_file(metrics: Metrics, path: str) -> None:
    """Replace ``path`` at once: a reader sees the old text or the new one. Raises NotPermittedError, CaptureError."""
    try:
        write_whole(path, [metrics.text().encode()])
    except PermissionError:
        raise NotPermittedError(f"not permitted to write {path}: it takes write access to its directory") from None
    except OSError as error:
        raise CaptureError(f"{path}: {(error.strerror or str(error)).lower()}") from None


class Server:
    """``GET /metrics`` on one address. Raises NotPermittedError, CaptureError."""

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 5  # seconds, for a client that does not finish its request
            server_version = "kvmwhy"
            sys_version = ""

            def do_GET(self) -> None:
                is_metrics = self.path.split("?", 1)[0] == "/metrics"
                body = metrics.text().encode() if is_metrics else b"see /metrics\n"
                self.send_response(200 if is_metrics else 404)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: Any) -> None:
                """A scrape is no news."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except PermissionError:
            raise NotPermittedError(
                f"not permitted to listen on {host}:{port}: ports below 1024 take CAP_NET_BIND_SERVICE"
            ) from None
        except OSError as error:
            raise CaptureError(f"{host}:{port}: {(error.strerror or str(error)).lower()}") from None
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=2)

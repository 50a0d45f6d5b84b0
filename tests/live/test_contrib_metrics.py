"""Alert rules and dashboard of contrib/: read by Prometheus' own tool, and about counters that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kvmwhy.live.metrics import Metrics
from needs import missing

CONTRIB = Path(__file__).parent.parent.parent / "contrib"
RULES, TESTS = CONTRIB / "prometheus" / "kvmwhy.rules.yml", CONTRIB / "prometheus" / "kvmwhy.rules.test.yml"
DASHBOARD: dict[str, Any] = json.loads((CONTRIB / "grafana" / "kvmwhy.json").read_text())
PARTS = {"kvmwhy_delay_seconds_sum", "kvmwhy_delay_seconds_count"}  # of a summary
NAMES = PARTS | {line.split()[2] for line in Metrics().text().splitlines() if line.startswith("# TYPE ")}


@pytest.fixture(scope="module")
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        missing("live", "no promtool")
    return program


def run(*command: str | Path, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_the_rules_do_what_they_say(promtool: str) -> None:
    """They are well formed, and their own tests hold: nothing on a calm host, one alert for each kind of trouble."""
    assert "SUCCESS" in run(promtool, "check", "rules", RULES)
    run(promtool, "test", "rules", TESTS)


def test_the_metrics_are_well_formed(promtool: str) -> None:
    """Prometheus' linter finds nothing, at the start and after failures."""
    metrics = Metrics()
    run(promtool, "check", "metrics", stdin=metrics.text())
    metrics.count(kind="internal-error", suberror=1, silent=False, cause="emulator-no-handler")
    metrics.delay(0.1)
    run(promtool, "check", "metrics", stdin=metrics.text())


def test_the_dashboard_asks_what_prometheus_understands(promtool: str, tmp_path: Path) -> None:
    """Each query is one of PromQL once Grafana's variables have a value."""
    rules = [
        {"record": f"panel:{n}", "expr": expr.replace("$__rate_interval", "5m").replace("$instance", ".*")}
        for n, expr in enumerate(expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert "SUCCESS" in run(promtool, "check", "rules", path)


@pytest.mark.parametrize("source", ["rules", "dashboard"])
def test_only_counters_that_there_are(source: str) -> None:
    """A renamed counter breaks no alert silently."""
    text = RULES.read_text() if source == "rules" else "\n".join(expressions())
    used = set(re.findall(r"\bkvmwhy_[a-z_]{1,60}", text))
    assert used
    assert used <= NAMES


def test_every_alert_is_tested() -> None:
    """Each fires or stays silent in the rules' own tests."""
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    tested = TESTS.read_text()
    assert len(alerts) == len(set(alerts))
    assert [alert for alert in alerts if f"alertname: {alert}" not in tested] == []


def test_a_first_failure_has_an_increase() -> None:
    """The series of what may fail are there at 0 before anything has failed."""
    before = Metrics().text()
    for labels in ('kind="internal-error",suberror="1",silent="false"', 'kind="other",suberror="",silent="true"'):
        assert f"kvmwhy_failures_total{{{labels}}} 0\n" in before

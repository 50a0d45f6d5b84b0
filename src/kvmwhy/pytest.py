"""A pytest plugin: a failed test that started a VM gets a section with the reason why KVM gave up on the guest.

    pytest -p kvmwhy.pytest

It reads what the test printed, what its exception says, the files in its ``tmp_path``, those of the ini option
``kvmwhy_logs`` (patterns, relative to the root directory) that were written while it ran, and the host's kernel log of
that time where that may be read. It starts nothing, and reads nothing of a test that passes.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Generator, Iterator
from glob import iglob
from pathlib import Path
from typing import Final

import pytest

_MOST_FILE: Final = 64 << 20  # bytes that are read of one file
_MOST_FILES: Final = 200
_MOST_SHOWN: Final = 3  # failures of one test
_KMSG: Final = "/dev/kmsg"
_MOST_RECORDS: Final = 100_000
_RECORD: Final = 8192  # the longest that one read of it gives: kernel/printk/printk.c, CONSOLE_EXT_LOG_MAX
_BEGAN: Final = pytest.StashKey[float]()
_KERNEL_LOG: Final = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's only setting."""
    parser.addini(
        "kvmwhy_logs", "logs of VMs that tests start: patterns, relative to the root directory", "linelist", []
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:  # noqa: ARG001 -- pytest goes by the names
    """Remember when the test began, and where the kernel's log ended then."""
    item.stash[_BEGAN] = time.time()
    kernel_log = _end_of_kernel_log()
    if kernel_log is not None:
        item.stash[_KERNEL_LOG] = kernel_log
    try:
        return (yield)
    finally:
        if kernel_log is not None:
            os.close(kernel_log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],  # noqa: ARG001 -- pytest goes by the names
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Explain what a failed test left behind."""
    report = yield
    if report.failed:
        _explain(item, report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each test with a failure of KVM; on GitHub, an annotation as well."""
    lines = dict.fromkeys(
        (report.nodeid, answer)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport)
        for name, answer in report.user_properties
        if name == "kvmwhy"
    )
    if not lines:
        return
    terminalreporter.section("KVM gave up on a guest")
    for test, answer in lines:
        terminalreporter.write_line(f"{test}: {answer}")
        if os.environ.get("GITHUB_ACTIONS") == "true":
            # What ends a command's text or its properties is escaped: GitHub's toolkit, command.ts.
            text = str(answer).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
            terminalreporter.write_line(f"::error title=KVM gave up on a guest::{test}: {text}")


def _explain(item: pytest.Item, report: pytest.TestReport) -> None:
    import kvmwhy

    remarks: list[str] = []
    diagnoses = kvmwhy.explain(*_evidence(item, report), remark=remarks.append)
    if not diagnoses:
        return
    shown = [kvmwhy.to_text(diagnosis, depth="screen") for diagnosis in diagnoses[:_MOST_SHOWN]]
    if len(diagnoses) > _MOST_SHOWN:
        shown.append(f"and {len(diagnoses) - _MOST_SHOWN} more")
    report.sections.append(("kvmwhy: why KVM gave up on the guest", "\n".join(shown)))
    answers = [("kvmwhy", diagnosis.answer) for diagnosis in diagnoses[:_MOST_SHOWN]]
    report.user_properties += answers
    item.user_properties += answers  # of the report on the teardown, from which JUnit's XML takes them


def _evidence(item: pytest.Item, report: pytest.TestReport) -> Iterator[bytes | str]:
    """What the test printed and raised, the files that it wrote, and what the host's kernel said meanwhile."""
    printed = [text for _, text in report.sections]
    yield "\n".join([*printed, report.longreprtext]).encode()
    began = item.stash.get(_BEGAN, 0.0)
    for n, path in enumerate(_files(item)):
        if n >= _MOST_FILES:
            break
        try:
            info = os.stat(path)
        except OSError:
            continue
        if stat.S_ISREG(info.st_mode) and info.st_size <= _MOST_FILE and info.st_mtime >= began - 1:
            try:
                yield Path(path).read_bytes()
            except OSError:
                continue
    if (kernel_log := item.stash.get(_KERNEL_LOG, None)) is not None:
        yield _since(kernel_log)


def _files(item: pytest.Item) -> Iterator[str]:
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if folder is not None:
        for here, _, names in os.walk(folder):
            yield from (os.path.join(here, name) for name in names)
    for pattern in item.config.getini("kvmwhy_logs"):
        yield from iglob(str(item.config.rootpath / pattern), recursive=True)


# -- the kernel's log ------------------------------------------------------------------------------


def _end_of_kernel_log() -> int | None:
    """A descriptor behind the last record: Documentation/ABI/testing/dev-kmsg, SEEK_END."""
    try:
        kernel_log = os.open(_KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, AttributeError):  # no rights, or no Linux
        return None
    try:
        os.lseek(kernel_log, 0, os.SEEK_END)
    except OSError:
        os.close(kernel_log)
        return None
    return kernel_log


def _since(kernel_log: int) -> bytes:
    """The records since then, as dmesg prints them: ``priority,sequence,microseconds,flags;text``."""
    lines: list[bytes] = []
    for _ in range(_MOST_RECORDS):
        try:
            record = os.read(kernel_log, _RECORD)
        except BrokenPipeError:  # records were overwritten; the next read goes on behind them
            continue
        except OSError:  # none is left
            break
        head, _, text = record.partition(b";")
        fields = head.split(b",")
        if not record or len(fields) < 3 or not fields[2].isdigit():
            break
        seconds, micro = divmod(int(fields[2]), 1_000_000)
        lines.append(b"[%5d.%06d] " % (seconds, micro) + text.partition(b"\n")[0])
    return b"\n".join(lines)

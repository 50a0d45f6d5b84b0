"""A trace instance of one's own: made, filled, read and removed without touching anyone else's tracing.

Two instances belong to one watcher. ``kvmwhy-PID`` has only the events of failures, filtered by the kernel
and read as they come. ``kvmwhy-PID-past``, if it is wanted, is a flight recorder: the kernel overwrites its oldest
pages, and nobody reads it before something has failed, so that a busy guest pays for the tracepoints alone.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from kvmwhy.abi.kvm_run import ARM_LEFT_TO_VMM
from kvmwhy.abi.uname import Arch, arch_of
from kvmwhy.live.errors import BusyError, CaptureError, GoneError, NotPermittedError, NoTracefsError
from kvmwhy.live.process import descriptors

MOUNTS: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
PREFIX: Final = "kvmwhy-"
PAST: Final = "-past"
MAX_PAGE: Final = 64 << 10  # the largest sub-buffer there is
_NOTE: Final = "events/kvm/kvm_mmio/filter"
_ENDS: Final = re.compile(rb"gpa == (\d{1,20})")
_TRIES, _PAUSE = 25, 0.02  # until an instance that is in use is left to the next watch

# What a failure looks like. EINTR and EAGAIN are how KVM_RUN says "nothing happened"; the exits are
# UNKNOWN, EXCEPTION, SHUTDOWN, FAIL_ENTRY and INTERNAL_ERROR; on arm64 also those that a VMM may not know.
_RUN_FAILED: Final = "(errno < 0 && errno != -4 && errno != -11)"
_EXITS: Final = (0, 1, 8, 9, 17)
_EXITS_OF_ARM64: Final = (0, 1, 9, 17, *sorted(ARM_LEFT_TO_VMM))


def failures_of(arch: Arch | None) -> dict[str, str | None]:
    """The events of failures on a host of that architecture, each with its filter.

    arm64 has no emulator: an access that the CPU does not describe has an event of its own, with PC and address.
    """
    exits = " || ".join(f"reason == {number}" for number in (_EXITS_OF_ARM64 if arch == "arm64" else _EXITS))
    events: dict[str, str | None] = {"kvm_userspace_exit": f"{_RUN_FAILED} || (errno >= 0 && ({exits}))"}
    return events | ({"kvm_mmio_nisv": None} if arch == "arm64" else {} if arch == "riscv64" else _EMULATION)


_EMULATION: Final[dict[str, str | None]] = {"kvm_emulate_insn": "failed == 1"}
FAILURES: Final[Mapping[str, str | None]] = failures_of(arch_of(platform.machine()))
# Without a flight recorder, the #UD that a guest gets for a failed emulation has to be among them.
FAILURES_ALONE: Final[Mapping[str, str | None]] = {**FAILURES, "kvm_inj_exception": "exception == 6"}
# Those that a kernel has: each architecture has its own (arch/*/kvm/trace*.h).
HISTORY: Final[Mapping[str, str | None]] = {
    "kvm_exit": None,
    "kvm_guest_fault": None,
    "kvm_sys_access": None,
    "kvm_mmio": None,
    "kvm_pio": None,
    "kvm_page_fault": None,
    "kvm_inj_exception": None,  # #UD behind a failed emulation: the failure that no VMM hears of
}


def find_root(given: str | None = None) -> str:
    """Where tracefs is mounted. Raises NoTracefsError, NotPermittedError."""
    for root in (given,) if given else MOUNTS:
        try:
            if {"instances", "events", "per_cpu"} <= set(os.listdir(root)):
                return root
        except PermissionError:
            raise NotPermittedError(f"not permitted to look into {root}: it takes root, or CAP_DAC_OVERRIDE") from None
        except OSError:
            continue
    where = given or MOUNTS[0]
    if not os.path.isdir(where):
        raise NoTracefsError(f"there is no directory {where}; tracefs is usually at /sys/kernel/tracing")
    raise NoTracefsError(f"there is no tracefs in {where}: mount it with `mount -t tracefs nodev {where}`")


class Instance:
    """One directory under instances/. Raises NoTracefsError, NotPermittedError, CaptureError.

    ``pipes`` are the CPUs' ring buffers by number, opened for reading without waiting.
    """

    def __init__(self, root: str, name: str, *, create: bool = True) -> None:
        self.path = f"{root}/instances/{name}"
        self.name = name
        self.pipes: dict[int, int] = {}
        self._instances = -1
        if create:
            try:
                os.mkdir(self.path)
            except OSError as error:
                raise _refused(error, self.path, "making an instance takes root, or CAP_DAC_OVERRIDE") from None
        try:
            self._open_pipes()
        except BaseException:
            self.remove()
            raise

    def _open_pipes(self) -> None:
        """Every CPU that may ever come. An open pipe also keeps others from removing the instance.

        The directory stays open, too: tracefs may be unmounted, or mounted over, while we watch.
        """
        try:
            self._instances = os.open(os.path.dirname(self.path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            names = os.listdir(f"{self.path}/per_cpu")
        except OSError as error:
            raise _refused(error, f"{self.path}/per_cpu", "reading a trace takes root, or CAP_DAC_OVERRIDE") from None
        for name in sorted(names):
            if match := re.fullmatch(r"cpu(\d{1,5})", name):
                path = f"{self.path}/per_cpu/{name}/trace_pipe_raw"
                try:
                    self.pipes[int(match[1])] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                except OSError as error:
                    raise _refused(error, path, "reading a trace takes root, or CAP_DAC_OVERRIDE") from None

    def set_up(self, kib: int, clock: str = "mono", *, overwrite: bool) -> None:
        """Size of each CPU's buffer, the clock, and what happens when the buffer is full."""
        self.write("buffer_size_kb", str(kib))
        self.write("trace_clock", clock)
        self.write("options/overwrite", "1" if overwrite else "0")
        try:
            self.write("buffer_percent", "0")  # wake a reader for every event; older kernels always do
        except GoneError:
            return

    def enable(self, events: Mapping[str, str | None]) -> tuple[str, ...]:
        """Switch on those of KVM's events that this kernel has; which these are. A filter is only an economy."""
        enabled = []
        for name, condition in events.items():
            directory = f"events/kvm/{name}"
            if not os.path.isdir(f"{self.path}/{directory}"):
                continue
            if condition is not None:
                try:
                    self.write(f"{directory}/filter", condition)
                except NotPermittedError:
                    raise
                except CaptureError:
                    pass  # a field has another name here: everything comes, and the reader selects
            self.write(f"{directory}/enable", "1")
            enabled.append(name)
        if not enabled:
            raise NoTracefsError("tracefs has no events of KVM: it is not loaded, or this kernel has no tracepoints")
        return tuple(enabled)

    def write(self, file: str, text: str) -> None:
        path = f"{self.path}/{file}"
        try:
            with open(path, "w", encoding="ascii") as stream:
                stream.write(text)
        except OSError as error:
            raise _refused(error, path, "setting up an instance takes root, or CAP_DAC_OVERRIDE") from None

    def note(self, since: float, until: float | None = None) -> None:
        """Leave a note for whoever takes this instance over: from when to when its events count, by the trace's clock.

        As the filter of an event that is not enabled here: it does nothing, stays with the instance, and is read back.
        """
        ends = [f"gpa == {round(when * 1e9)}" for when in (since, until) if when is not None]
        with suppress(CaptureError):
            self.write(_NOTE, " || ".join(ends))

    def noted(self) -> tuple[float | None, float | None]:
        """(since, until), as far as note() left them."""
        try:
            with open(f"{self.path}/{_NOTE}", "rb") as stream:
                ends = [int(number) / 1e9 for number in _ENDS.findall(stream.read(256))]
        except OSError:
            ends = []
        return (ends[0] if ends else None), (ends[1] if len(ends) > 1 else None)

    @property
    def is_empty(self) -> bool:
        """Nothing is left to be read, on any CPU."""
        return all(self._stats(cpu, "entries") == 0 for cpu in self.pipes)

    def pages(self, cpu: int, limit: int = 1 << 20) -> Iterator[bytes]:
        """What this CPU's buffer holds, page by page; read pages are gone from it. Empty when it is empty."""
        for _ in range(limit):
            try:
                page = os.read(self.pipes[cpu], MAX_PAGE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EINTR:
                    continue
                raise GoneError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None
            if not page:
                return
            yield page

    def overruns(self, cpu: int) -> int | None:
        """Events that this CPU's buffer had no room for, since it was made: the kernel's own count, if it tells."""
        return self._stats(cpu, "dropped events|overrun")

    def _stats(self, cpu: int, names: str) -> int | None:
        """The sum of these counters of a CPU's buffer; None if the kernel does not tell."""
        try:
            fd = os.open(f"{self.name}/per_cpu/cpu{cpu}/stats", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._instances)
            with open(fd, "rb") as stream:
                text = stream.read(4096).decode("ascii", "replace")
        except OSError:
            return None
        counts = re.findall(rf"^(?:{names}): (\d{{1,18}})$", text, re.MULTILINE)
        return sum(map(int, counts)) if counts else None

    def close(self) -> None:
        """Close the pipes and leave the instance, with what it has recorded."""
        self._close_pipes()
        self._close_directory()

    def _close_pipes(self) -> None:
        for fd in self.pipes.values():
            os.close(fd)
        self.pipes = {}

    def _close_directory(self) -> None:
        if self._instances >= 0:
            os.close(self._instances)
            self._instances = -1

    def remove(self) -> None:
        """Close the pipes and take the instance away, its events with it. Again: nothing."""
        self._close_pipes()
        for _ in range(_TRIES):
            try:
                if self._instances >= 0:
                    os.rmdir(self.name, dir_fd=self._instances)
                else:
                    os.rmdir(self.path)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    break
                time.sleep(_PAUSE)  # someone looks into it at this moment
            else:
                break
        self._close_directory()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.remove()


def stale(root: str, prefix: str = PREFIX) -> tuple[str, ...]:
    """Instances that a watcher left behind when it was killed; the failures before the past."""
    try:
        names = os.listdir(f"{root}/instances")
    except OSError:
        return ()
    ours = re.compile(rf"{re.escape(prefix)}(\d{{1,10}})(?:{PAST})?")
    owners = {name: int(match[1]) for name in names if (match := ours.fullmatch(name))}
    return tuple(sorted((n for n, pid in owners.items() if not _is_watching(pid, n)), key=lambda n: (PAST in n, n)))


def _is_watching(pid: int, name: str) -> bool:
    """Whether that process has the instance's pipes open: a PID may have come to someone else since."""
    try:
        return any(f"/instances/{name}/" in link for _, link in descriptors(pid))
    except GoneError:
        return False
    except CaptureError:
        return True  # not to be told: leave it alone


def formats(root: str, events: tuple[str, ...]) -> str:
    """``header_page`` and the format files of KVM's events, as one text; an event that this kernel lacks is left out.

    Raises NotPermittedError, CaptureError.
    """
    texts = []
    for path in ("header_page", *(f"kvm/{event}/format" for event in events)):
        try:
            with open(f"{root}/events/{path}", "rb") as stream:
                texts.append(stream.read(256 << 10).decode("ascii", "replace"))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _refused(
                error, f"{root}/events/{path}", "the formats of events take root, or CAP_DAC_OVERRIDE"
            ) from None
    return "\n".join(texts)


def _refused(error: OSError, path: str, right: str) -> CaptureError:
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return NotPermittedError(f"not permitted: {path}: {right}")
    if error.errno == errno.EBUSY:
        return BusyError(f"{path} is in use by someone else")
    if error.errno == errno.ENOENT:
        return GoneError(f"{path} is not there")
    return CaptureError(f"{path}: {(error.strerror or str(error)).lower()}")

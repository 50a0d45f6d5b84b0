"""One run of ``kvmwhy exec``: what was seen of the command, what is shown of it, and what is kept."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from kvmwhy import __version__
from kvmwhy.cli import exec_output
from kvmwhy.cli.exec import ExecOptions
from kvmwhy.live import tracefs
from kvmwhy.live.errors import CaptureError
from kvmwhy.live.exec import output, record_file
from kvmwhy.live.exec.follow import Ended, Follower, Incident, State
from kvmwhy.live.exec.guard import guard
from kvmwhy.live.exec.output import Relay
from kvmwhy.live.exec.tracees import Tracees
from kvmwhy.live.host import host_facts
from kvmwhy.live.watch import Watch
from kvmwhy.record import Failure, Host, Kind
from kvmwhy.render.safe import safe

if TYPE_CHECKING:
    from kvmwhy.cli.symbolise import Symbols

_PREFIX: Final = "kvmwhy-exec-"  # of its instances in tracefs
_INITIAL_PID_NAMESPACE: Final = "pid:[4026531836]"  # include/linux/proc_ns.h: PROC_PID_INIT_INO
_MOST_SHOWN: Final = 8  # explanations of one run
_MOST_KEPT: Final = 1000
_MOST_LOG: Final = 8 << 20  # of a file that the command writes to
_HARD: Final[frozenset[Kind]] = frozenset(
    {"internal-error", "entry-failure", "unknown-exit", "run-error", "shutdown", "exception-exit"}
)
_REFUSED: Final[frozenset[Kind]] = frozenset({"setup-refused"})
_ASSUMED: Final = "it is assumed that the "  # of two records of one failure: here they are of one process
_ANY: Final = Failure(kind="internal-error", suberror=1, ndata=3, data=(1, 0x9090_9090_9003_D90F, (1 << 64) - 1))
_STATES: Final[dict[State, str]] = {
    "ended": "the VMM ends",
    "stopped": "no thread of the VMM runs this vCPU",
    "went on": "the VMM went on",
}


class Session:
    """From before the command's first instruction to the end of all that it started."""

    def __init__(
        self, options: ExecOptions, command_pid: int, traced: Tracees | str, relays: list[Relay], stack: ExitStack
    ) -> None:
        """``traced``: the command, or why it cannot be traced."""
        self.options = options
        self.pid = command_pid
        self.relays = relays
        self.files = output.inherited_files() if options.log else {}
        self.started = datetime.now(UTC)
        self.status: int | None = None
        self.not_captured: list[str] = []
        self.failures: list[bytes] = []  # the records, as JSON
        self.pages: dict[str, bytes] = {}
        self.is_kept = False  # the record has all that is known
        self._seen: set[bytes] = set()
        self._log_told: set[bytes] = set()
        self._own_file = exec_output.File()
        host = host_facts()
        watch = self._watch(host, stack) if options.trace else None
        tracees = None if isinstance(traced, str) else traced
        self.follower = Follower(command_pid, tracees, relays, watch, host, warm_up=_warm_up)
        if isinstance(traced, str):
            self.not_captured.append(f"vCPUs at the very end of their VMM: the command cannot be traced ({traced})")

    def _watch(self, host: Host, stack: ExitStack) -> Watch | None:
        """The trace of what descends from the command, where tracefs may be used."""
        if os.readlink("/proc/self/ns/pid") != _INITIAL_PID_NAMESPACE:
            self.not_captured.append("the last exits of vCPUs: in this PID namespace threads have other numbers")
            return None
        try:
            root = tracefs.find_root(self.options.tracefs)
            for left in tracefs.stale(root, _PREFIX):
                if not os.path.exists(f"/proc/{left.removeprefix(_PREFIX).split('-')[0]}"):  # else it is being made now
                    tracefs.Instance(root, left, create=False).remove()
            stack.callback(guard(root, f"{_PREFIX}{os.getpid()}"))
            return stack.enter_context(Watch(root, host, prefix=_PREFIX, family=self.pid))
        except (CaptureError, OSError) as error:
            self.not_captured.append(f"the last exits of vCPUs: {error}")
            return None

    def run(self) -> None:
        self.follower.run(self._incident, self._at_end)
        if not self.is_kept:
            self._keep()

    # -- failures ----------------------------------------------------------------------------------

    def _incident(self, incident: Incident) -> None:
        """Failures of one VMM, together with what it wrote of them."""
        from kvmwhy.readers import Evidence
        from kvmwhy.readers.correlate import combine

        self.pages |= {f"pages/{incident.pid}-vcpu{page.vcpu}.page": page.page for page in incident.pages}
        failures = tuple(_distinct(failure for failure in incident.failures if not failure.silent))
        silent = [failure for failure in incident.failures if failure.silent]  # no VMM wrote of these
        captured = Evidence(failures, format="exec")
        for failure in [*silent, *combine([captured, *self._in_log(_HARD)])]:
            damage = tuple(remark for remark in failure.damage if not remark.startswith(_ASSUMED))
            self._explain(replace(failure, damage=damage), incident)
        self.is_kept = False

    def _in_log(self, kinds: frozenset[Kind]) -> list[Any]:
        """What the log says of failures that nobody has been told of, by reader; the last of those that are equal."""
        from kvmwhy.pipeline import identity, records
        from kvmwhy.readers import Evidence

        by_format: dict[str, dict[bytes, Failure]] = {}
        for data in self._logs().values():
            for record in records((data,)):
                failure = record.failure
                same = identity(failure)
                key = same + repr(failure.source.line).encode()
                if failure.kind in kinds and key not in self._log_told:
                    self._log_told.add(key)
                    by_format.setdefault(record.format or "log", {})[same] = failure
        return [Evidence(tuple(failures.values()), format=name) for name, failures in by_format.items()]

    def _logs(self) -> dict[str, bytes]:
        """What the command has written: through us, or into files by itself."""
        logs = {_name(relay.fds): relay.log.data for relay in self.relays}
        for fd, (path, begin) in self.files.items():
            with suppress(OSError), open(path, "rb") as stream:
                stream.seek(begin)
                logs[_name((fd,))] = self._own_file.without_ours(stream.read(_MOST_LOG), begin)
        return logs

    def _explain(self, failure: Failure, incident: Incident | None) -> None:
        """Show it, unless the same was shown before, or nothing failed."""
        from kvmwhy.cli.exec_memory import Around, look
        from kvmwhy.diagnosis import diagnose
        from kvmwhy.pipeline import identity
        from kvmwhy.render.json import to_object

        key = identity(failure)
        if key in self._seen or len(self.failures) >= _MOST_KEPT:
            return
        self._seen.add(key)
        around = look(failure, incident, self.options.syntax) if incident else Around(failure)
        shown_code, failure = failure.code, around.failure
        diagnosis = diagnose(failure, syntax=self.options.syntax)
        if failure.silent and diagnosis.origins and diagnosis.origins[0].id == "none":
            return  # the guest wanted its #UD
        live = _live(failure, incident)
        named = self._symbols().name(diagnosis.facts, around.stack)
        extra = {"symbols": named.parts} if named.parts else {}
        guest = {"memory": around.parts} if around.parts else None
        record = {**to_object(diagnosis), "live": {**live, "guest": guest}, **extra}
        line = msgspec.json.encode(record)
        kept = line
        if not self.options.memory:
            bare = diagnosis if failure.code is shown_code else diagnose(replace(failure, code=shown_code))
            kept = msgspec.json.encode({**to_object(bare), "live": live, **extra})
        self.failures.append(self._redacted(failure) if self.options.redact else kept)
        if len(self.failures) > _MOST_SHOWN:
            return
        if self.options.as_json:
            self._say(line + b"\n")
            return
        from kvmwhy.render.page import Line
        from kvmwhy.render.screen import screen
        from kvmwhy.render.text import explanation

        head = Line(safe(f"── kvmwhy: {_who(failure, incident)}"), "head")
        shown = screen(diagnosis, syntax=self.options.syntax) if self.options.screen else explanation(diagnosis)
        body = [*shown, *around.lines, *named.lines]
        self._say(exec_output.page([Line(), head, Line(), *body, Line()]))

    @cache  # noqa: B019 -- there is one session
    def _symbols(self) -> Symbols:
        from kvmwhy.cli.symbolise import Symbols, SymbolsError

        try:
            return Symbols.open(self.options.symbols)
        except SymbolsError as error:
            self._say_all([str(error)])
            return Symbols(())

    @staticmethod
    def _redacted(failure: Failure) -> bytes:
        from kvmwhy.fleet.redact import redact
        from kvmwhy.render.json import to_record

        return to_record(redact(failure).failure)

    def _say(self, data: bytes) -> None:
        if 2 in self.files:
            self._own_file.write(data)
        else:
            exec_output.write(data)

    # -- the end -----------------------------------------------------------------------------------

    def _at_end(self, ended: Ended) -> None:
        """The command is about to be gone: what only its log tells; then the file."""
        from kvmwhy.readers.correlate import combine

        self.status = ended.status
        failed = ended.status is None or ended.status != 0
        pieces = self._in_log(_HARD) if ended.held_kvm else []
        if failed and not self.failures and not pieces and self._mentions_kvm():
            pieces = self._in_log(_REFUSED)
        for failure in combine(pieces):
            self._explain(failure, None)
        if failed and not self.failures and ended.held_kvm:
            self._say_all(f"not captured: {what}" for what in self.not_captured)
        if (more := len(self.failures) - _MOST_SHOWN) > 0:
            from kvmwhy.cli.output import counted

            self._say_all([f"not shown: {counted(more, 'more failure')}; --record keeps them"])
        self._keep()

    def _say_all(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            self._say(f"kvmwhy: {safe(sentence)}\n".encode())

    def _mentions_kvm(self) -> bool:
        return any(b"kvm" in data.lower() for data in self._logs().values())

    def _keep(self) -> None:
        """The record, as it is by now."""
        self.is_kept = True
        if self.options.record is None:
            return
        manifest: dict[str, Any] = {
            "version": __version__,
            "started": self.started.isoformat(timespec="seconds"),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "failures": len(self.failures),
            "not_captured": [safe(what) for what in self.not_captured],
        }
        members: dict[str, bytes] = {}
        if not self.options.redact:
            manifest |= {"command": [safe(word) for word in self.options.command], "pid": self.pid}
            members = {f"{name}.log": data for name, data in self._logs().items()} | self.pages
        if self.status is not None:
            manifest["exited"] = os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None
            manifest["signal"] = os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None
        failures = b"".join(failure + b"\n" for failure in self.failures)
        try:
            record_file.write(self.options.record, msgspec.json.encode(manifest), failures, members)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            self._say_all([f"{self.options.record}: {why}; the record is not kept"])


def _distinct(failures: Iterable[Failure]) -> Iterable[Failure]:
    """The first of those that are equal: a guest that fails again and again has one story."""
    from kvmwhy.pipeline import identity

    return {identity(failure): failure for failure in reversed(list(failures))}.values()


def _warm_up() -> None:
    """Import what an explanation takes."""
    import kvmwhy.cli.exec_memory
    import kvmwhy.cli.output
    import kvmwhy.pipeline
    import kvmwhy.readers.correlate
    import kvmwhy.render.screen
    import kvmwhy.render.text  # noqa: F401
    from kvmwhy.diagnosis import diagnose
    from kvmwhy.render.json import to_object

    to_object(diagnose(_ANY))


def _live(failure: Failure, incident: Incident | None) -> dict[str, Any]:
    """The process, as `kvmwhy attach` shows it."""
    state = incident.state if incident else "ended"
    return {
        "pid": incident.pid if incident else None,
        "domain": None,
        "vcpu": failure.source.vcpu,
        "state": state,
        "why": _STATES[state],
        "registers_from": "the VMM's output" if failure.cpu and failure.cpu.is_dump else None,
        "guest": None,
    }


def _who(failure: Failure, incident: Incident | None) -> str:
    name = failure.source.vmm or "a VMM"
    vcpu = "" if failure.source.vcpu is None else f", vCPU {failure.source.vcpu}"
    if incident is None or incident.pid is None:
        return f"{name}{vcpu}"
    return f"{name} (process {incident.pid}){vcpu}: {_STATES[incident.state]}"


def _name(fds: tuple[int, ...]) -> str:
    return "output" if len(fds) == 2 else "stdout" if fds == (1,) else "stderr"

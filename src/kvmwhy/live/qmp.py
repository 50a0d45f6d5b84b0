"""QEMU's monitor, asked questions only: a small synchronous client of QMP.

Only what looks and changes nothing can be said through it (``_ALLOWED``), so that no bug here can stop,
resume or reset a guest. The other side is not trusted: answers are bounded in time and size.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, Final, Protocol, Self

from kvmwhy.live.errors import BusyError, CaptureError, GoneError, NotPermittedError

_ALLOWED: Final = {
    "qmp_capabilities",
    "query-status",
    "query-stats",
    "query-version",
    "query-cpus-fast",
    "query-memory-size-summary",
    "query-pci",
}
# xp reads guest memory by physical address; whoever asks keeps to RAM, for a device may act on a read.
_ALLOWED_HMP: Final = re.compile(
    r"info registers -a|info mtree -f|info qtree|xp /\d{1,4}xb 0x[0-9a-f]{1,16}|gva2gpa 0x[0-9a-f]{1,16}"
)
_MAX_ANSWER: Final = 64 << 20
_GREETING: Final = 2.0  # seconds; QEMU greets at once, unless it serves another client


class Monitor(Protocol):
    """Whatever can carry a QMP command to QEMU and its answer back. Raises CaptureError."""

    def execute(self, command: str, **arguments: Any) -> Any: ...
    def human(self, line: str) -> str: ...


def check(command: str, arguments: dict[str, Any]) -> None:
    """Raises ValueError for a command that does more than look."""
    if command == "human-monitor-command":
        if not _ALLOWED_HMP.fullmatch(str(arguments.get("command-line"))):
            raise ValueError(f"not a command that only looks: {arguments}")
    elif command not in _ALLOWED:
        raise ValueError(f"not a command that only looks: {command}")


class QmpSocket:
    """A monitor behind a UNIX socket. It serves one client at a time, so close() it soon.

    ``owner`` is the user that the other end must belong to: a path from another process' command line
    may lead anywhere. Nothing is sent before the other end has greeted as QMP does.
    Raises BusyError, NotPermittedError, GoneError, CaptureError.
    """

    def __init__(self, path: str, *, owner: int | None = None, timeout: float = 10.0) -> None:
        self.path = path
        self.pid = 0
        self._timeout = timeout
        self._held = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect(owner)
            self.execute("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def _connect(self, owner: int | None) -> None:
        self._socket.settimeout(_GREETING)
        try:
            self._socket.connect(self.path)
        except PermissionError:
            raise NotPermittedError(
                f"not permitted to use {self.path}: it takes write access to this socket, as the VMM's user has it"
            ) from None
        except TimeoutError:
            raise self._busy() from None
        except OSError as error:
            if isinstance(error, BlockingIOError):  # the queue of the socket is full: someone is served
                raise self._busy() from None
            raise GoneError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None
        self.pid, user = self._peer()
        if owner is not None and user not in {owner, 0}:
            raise CaptureError(f"{self.path} belongs to user {user}, not to the VMM's user {owner}: not used")
        try:
            greeting = self._message(monotonic() + _GREETING)
        except TimeoutError:
            raise self._busy() from None
        if not isinstance(greeting.get("QMP"), dict):
            raise CaptureError(f"{self.path} does not greet as QMP does: it is no monitor in control mode")

    def _busy(self) -> BusyError:
        return BusyError(
            f"{self.path} does not answer: a QMP socket serves one client at a time, and another one has it "
            "(libvirt does: use --domain), or QEMU hangs"
        )

    def _peer(self) -> tuple[int, int]:
        """(process, user) that made the socket: QEMU, or who handed it to QEMU."""
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
        pid, user, _ = struct.unpack("iII", raw)
        return pid, user

    def execute(self, command: str, **arguments: Any) -> Any:
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        check(command, arguments)
        message = {"execute": command, **({"arguments": arguments} if arguments else {})}
        try:
            self._socket.settimeout(self._timeout)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
            deadline = monotonic() + self._timeout
            while True:
                answer = self._message(deadline)
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise refusal(command, answer["error"])
        except TimeoutError:
            raise CaptureError(f"{self.path}: no answer to {command} within {self._timeout:g} s") from None
        except OSError as error:
            raise GoneError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None

    def human(self, line: str) -> str:
        return text_of(self.execute("human-monitor-command", command_line=line))

    def _message(self, deadline: float) -> dict[str, Any]:
        """The next object. Raises TimeoutError, GoneError, CaptureError."""
        while (end := self._held.find(b"\n")) < 0:
            if len(self._held) > _MAX_ANSWER:
                raise CaptureError(f"{self.path}: an answer of more than {_MAX_ANSWER >> 20} MiB")
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            data = self._socket.recv(1 << 16)
            if not data:
                raise GoneError(f"{self.path}: the monitor closed the connection")
            self._held += data
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        return parse(line, self.path)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()


class Virsh:
    """The monitor of a libvirt domain, which libvirt itself is connected to."""

    def __init__(
        self,
        domain: str,
        *,
        uri: str | None = None,
        program: str = "virsh",
        run: Callable[..., Any] = subprocess.run,
        timeout: float = 20.0,
    ) -> None:
        self.path = f"domain {domain}"
        self._connect = ("-c", uri) if uri else ()
        self._domain, self._program, self._run, self._timeout = domain, program, run, timeout

    def execute(self, command: str, **arguments: Any) -> Any:
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        check(command, arguments)
        message = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
        words = [
            self._program,
            "-q",
            *self._connect,
            "qemu-monitor-command",
            f"--domain={self._domain}",
            f"--cmd={message}",
        ]
        try:
            done = self._run(words, capture_output=True, check=False, timeout=self._timeout, stdin=subprocess.DEVNULL)
        except FileNotFoundError:
            raise CaptureError(f"there is no {self._program} here; it comes with libvirt's clients") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CaptureError(f"{self._program} does not answer: {error}") from None
        if done.returncode:
            lines = done.stderr.decode("utf-8", "replace").strip().removeprefix("error: ").splitlines()
            raise CaptureError(f"{self._program}: {lines[0] if lines else f'status {done.returncode}'}")
        answer = parse(done.stdout[:_MAX_ANSWER], self.path)
        if "error" in answer:
            raise refusal(command, answer["error"])
        return answer.get("return")

    def human(self, line: str) -> str:
        return text_of(self.execute("human-monitor-command", command_line=line))

    def pid(self, run_directory: str = "/run/libvirt/qemu") -> int | None:
        """The QEMU process, from the file that libvirt keeps of it."""
        if os.sep in self._domain:
            return None
        try:
            with open(f"{run_directory}/{self._domain}.pid", "rb") as stream:
                return int(stream.read(32))
        except (OSError, ValueError):
            return None


def parse(line: bytes, path: str) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise CaptureError(f"{path}: what it sent is no QMP")
    return answer


def refusal(command: str, error: Any) -> CaptureError:
    words = error.get("desc") if isinstance(error, dict) else error
    return CaptureError(f"QEMU refused {command}: {words}")


def text_of(answer: Any) -> str:
    return answer.replace("\r\n", "\n") if isinstance(answer, str) else ""

"""Programs that end, die, fork, daemonise and talk to terminals; and how a run of one looks from outside.

A run under `kvmwhy exec` must look as it does without: what it wrote, byte by byte, to where; how it ended; what its
parent saw of its signals.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

Channel = Literal["pipes", "one pipe", "terminal", "file", "nowhere"]
PATIENCE = 30.0


class Case(NamedTuple):
    """``act`` is done to the running program, by its PID, as soon as it has written its first byte to stdout."""

    name: str
    command: tuple[str, ...]
    act: Callable[[int], None] | None = None
    keys: bytes = b""  # typed at a terminal
    channels: tuple[Channel, ...] = ("pipes",)


class Look(NamedTuple):
    """What a parent sees. ``status`` is the wait status; ``stops``: which signals it saw its child stopped by."""

    status: int
    out: bytes
    err: bytes
    stops: tuple[int, ...] = ()


def sh(name: str, script: str, **more: object) -> Case:
    return Case(name, ("sh", "-c", script), **more)  # type: ignore[arg-type]  # as of Case


def py(name: str, script: str, **more: object) -> Case:
    return Case(name, (sys.executable, "-S", "-c", script), **more)  # type: ignore[arg-type]  # as of Case


def _stop_and_go_on(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.05)
    os.kill(pid, signal.SIGCONT)


def _send(*numbers: int) -> Callable[[int], None]:
    def act(pid: int) -> None:
        for number in numbers:
            os.kill(pid, number)
            time.sleep(0.03)

    return act


_DAEMON = """
import os, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
null = os.open('/dev/null', os.O_RDWR)
for fd in (0, 1, 2): os.dup2(null, fd)
time.sleep(0.2)
"""
_IDENTITY = """
import os
status = open('/proc/self/status').read()
names = ('SigBlk', 'SigIgn', 'SigCgt', 'NoNewPrivs', 'Seccomp:', 'Umask')
rows = [l for l in status.splitlines() if l.startswith(names)]
print(rows, os.getcwd(), os.getpid() == os.getsid(0), os.getpgid(0) == os.getpid(), sorted(os.listdir('/proc/self/fd')))
print(open(f'/proc/{os.getppid()}/comm').read(), sorted(k for k in os.environ))
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError as error:
    print(error)
"""
_THREADS = """
import threading, os, sys
def work(n):
    pass
for n in range(60):
    t = threading.Thread(target=work, args=(n,)); t.start(); t.join()
print('joined', flush=True)
threading.Thread(target=lambda: os._exit(9)).start()
threading.Event().wait()
"""
_SIZE = """
import os, sys
print([os.isatty(n) for n in (0, 1, 2)], os.get_terminal_size(1), os.get_terminal_size(0))
"""
_MODES = """
import sys, termios, tty, os
before = termios.tcgetattr(1)
tty.setcbreak(1)
os.write(1, b'?')
key = os.read(0, 1)
print('got', key, [bool(termios.tcgetattr(fd)[3] & termios.ICANON) for fd in (0, 1)])
termios.tcsetattr(1, termios.TCSADRAIN, before)
"""
_SIGNALS = """
import signal, os, sys
seen = []
for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
    signal.signal(n, lambda n, f: seen.append(n))
os.write(1, b'ready\\n')
while len(seen) < 3:
    signal.pause()
print(sorted(seen))
"""
_ALARMS = """
import signal
count = 0
def tick(n, f):
    global count
    count += 1
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while count < 200:
    signal.pause()
print('done')
"""
_ORDER = "import os\nfor n in range(2000): os.write(1 + n % 2, b'%d\\n' % n)"
_LARGE = "import os\nfor n in range(64): os.write(1, bytes(range(256)) * 128)"
_EXEC_FROM_THREAD = """
import threading, os
def work():
    os.execvp('sh', ['sh', '-c', 'echo replaced; exit 5'])
t = threading.Thread(target=work); t.start(); t.join(); threading.Event().wait()
"""
_ALL: tuple[Channel, ...] = ("pipes", "one pipe", "terminal", "file", "nowhere")

CASES: tuple[Case, ...] = (
    sh("nothing", ":", channels=_ALL),
    sh("exit 3", "echo out; echo err >&2; exit 3", channels=_ALL),
    sh("exit 255", "exit 255"),
    *(sh(f"killed by {n.name}", f"echo first; kill -{n.value} $$; sleep 2") for n in (
        signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGPIPE, signal.SIGHUP, signal.SIGUSR1,
        signal.SIGINT, signal.SIGQUIT, signal.SIGBUS,
    )),
    py("order", _ORDER, channels=("one pipe", "terminal", "file")),
    py("large", _LARGE, channels=("pipes", "terminal", "file")),
    py("bytes", "import os\nos.write(1, bytes(range(256))); os.write(2, b'\\xff\\n')", channels=("pipes", "one pipe")),
    sh("without a newline", "printf abc; printf def >&2", channels=_ALL),
    sh("closes its output", "exec >&- 2>&-; sleep 0.05; exit 4", channels=_ALL),
    sh("late child", "(sleep 0.2; echo late) & echo early", channels=("pipes", "one pipe")),
    sh("children", "for n in 1 2 3 4 5 6 7 8 9; do sh -c 'echo x; exit 2'; done; sh -c 'kill -9 $$'; echo $?"),
    sh("pipeline", "seq 20000 | tail -n 3 | cat; seq 100000 | head -n 1"),
    sh("exec chain", "exec env A=1 nice sh -c 'exec sh -c \"echo end; exit 7\"'"),
    py("exec from a thread", _EXEC_FROM_THREAD),
    py("daemon", _DAEMON, channels=_ALL),
    py("threads", _THREADS, channels=("pipes", "terminal")),
    py("identity", _IDENTITY, channels=("pipes", "file")),
    py("handlers", _SIGNALS, act=_send(signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP), channels=("pipes", "terminal")),
    py("alarms", _ALARMS),
    sh("stopped", "echo go; sleep 0.3; echo end; exit 6", act=_stop_and_go_on, channels=("pipes", "terminal")),
    sh("killed from outside", "echo go; sleep 2", act=_send(signal.SIGKILL), channels=("pipes", "terminal")),
    sh("ended from outside", "trap 'echo bye; exit 8' TERM; echo go; sleep 2 >&- & wait", act=_send(signal.SIGTERM)),
    sh("reads", "echo go; read line; echo got $line; cat", keys=b"one\ntwo\n\x04", channels=("pipes", "terminal")),
    py("size", _SIZE, channels=("terminal",)),
    py("modes", _MODES, keys=b"k", channels=("terminal",)),
    sh("interrupted", "echo go; sleep 5; echo never", keys=b"\x03", channels=("terminal",)),
    sh("interrupt ignored", "trap '' INT; echo go; sleep 0.4; echo alive", keys=b"\x03", channels=("terminal",)),
)  # fmt: skip


def look(command: tuple[str, ...], case: Case, channel: Channel, place: Path) -> Look:
    """Run it once, as a caller of that kind would."""
    if channel == "terminal":
        return _at_terminal(command, case)
    files = {name: place / name for name in ("out", "err")}
    merged = channel == "one pipe"
    with files["out"].open("wb") as out, files["err"].open("wb") as err:
        kinds: dict[Channel, tuple[object, object]] = {
            "pipes": (subprocess.PIPE, subprocess.PIPE),
            "one pipe": (subprocess.PIPE, subprocess.STDOUT),
            "file": (out, err),
            "nowhere": (subprocess.DEVNULL, subprocess.DEVNULL),
        }
        stdout, stderr = kinds[channel]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr)  # type: ignore[call-overload]
        assert process.stdin is not None
        first = b""
        if case.act and process.stdout:
            first = os.read(process.stdout.fileno(), 1)
            case.act(process.pid)
        with suppress(BrokenPipeError):
            process.stdin.write(case.keys.replace(b"\x04", b""))
            process.stdin.flush()
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdin = None
        read_out, read_err = process.communicate(timeout=PATIENCE)
    status = process.returncode
    if channel == "file":
        read_out, read_err = (files[name].read_bytes() for name in ("out", "err"))
    return Look(status, first + (read_out or b""), b"" if merged else read_err or b"")


def _at_terminal(command: tuple[str, ...], case: Case) -> Look:
    """The program's controlling terminal, of 33 × 101."""
    pid, master = pty.fork()
    if not pid:
        os.execvp(command[0], command)  # noqa: S606 -- the program under test
    with suppress(termios.error):
        termios.tcsetwinsize(master, (33, 101))
    out, done, acted = bytearray(), False, False
    stops: list[int] = []
    status = 0
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            if select.select((master,), (), (), 0.02)[0]:
                try:
                    data = os.read(master, 65536)
                except OSError:  # EIO: everyone has closed the terminal
                    data = b""
                if not data and done:
                    break
                out += data
            elif done:
                break
            if not acted and out:
                acted = True
                if case.keys:
                    time.sleep(0.05)
                    os.write(master, case.keys)
                if case.act:
                    case.act(pid)
            if not done:
                ended, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
                if ended and os.WIFSTOPPED(status):
                    stops.append(os.WSTOPSIG(status))
                elif ended:
                    done = True
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise TimeoutError(f"{command}: {bytes(out)!r}")
    finally:
        os.close(master)
    return Look(status, bytes(out), b"", tuple(stops))

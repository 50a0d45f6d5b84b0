"""How long it takes from a log to the verdict, and how many failures a process reproduces per second.

python bench/reproduce.py [LOG]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kvmwhy.machine import KvmMachine, Machine, MachineError
from kvmwhy.readers import read
from kvmwhy.record import Failure
from kvmwhy.reproduce import Cannot, plan, reproduce, run

LOG = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "long64-flds" / "qemu.log"
ROUNDS = 200
COLD = 7


def timed(work: Callable[[], object], rounds: int) -> float:
    """The median, in milliseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def cold(log: Path, *options: str) -> float:
    """A whole process: interpreter, imports, log, guest, verdict."""
    command = [sys.executable, "-m", "kvmwhy", "reproduce", str(log), *options]
    return timed(lambda: subprocess.run(command, capture_output=True, check=False), COLD)


def machines() -> dict[str, Callable[[], Machine]]:
    found: dict[str, Callable[[], Machine]] = {}
    try:
        KvmMachine().close()
        found["/dev/kvm"] = KvmMachine
    except MachineError as error:
        print(f"/dev/kvm: {error}")
    try:
        from kvmwhy.machine.model import Model

        with Model() as machine:
            machine.create_vcpu()
        found["model"] = Model
    except MachineError as error:
        print(f"model: {error}")
    return found


def again(make: Callable[[], Machine], failure: Failure) -> str:
    with make() as machine:
        return reproduce(failure, machine).status


def main() -> None:
    log = Path(sys.argv[1]) if len(sys.argv) > 1 else LOG
    data = log.read_bytes()
    (failure, *_) = read(data).failures
    made = plan(failure)
    if isinstance(made, Cannot):
        sys.exit(f"{log}: {made.why}")
    print(f"{log.name}: {made.text or made.mode}")
    for name, make in machines().items():
        status = again(make, failure)

        def just_run(make: Callable[[], Machine] = make) -> None:
            with make() as machine:
                run(made, machine)

        whole = timed(lambda make=make: again(make, read(data).failures[0]), ROUNDS)  # type: ignore[misc]
        option = ("--on", "kvm" if name == "/dev/kvm" else "model")
        print(
            f"{name}: {status}; from log to verdict {cold(log, *option):.0f} ms cold, {whole:.1f} ms warm"
            f" ({1000 / whole:.0f}/s); planning {timed(lambda: plan(failure), ROUNDS):.1f} ms,"
            f" running {timed(just_run, ROUNDS):.1f} ms"
        )


if __name__ == "__main__":
    main()

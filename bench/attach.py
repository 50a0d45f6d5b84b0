"""Whether `kvmwhy attach` takes a healthy VM for a failed one, or a failed one for healthy.

    sudo .venv/bin/python bench/attach.py [--looks 500] [--only NAME]

Real QEMUs and a VMM of C, in every state in which a host's VMs are found (tests/guests/healthy.py), and guests that
fail (tests/guests/boot.py). Each look is what `attach` does, with QEMU's monitor and without it in turn.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from guests import boot, healthy  # noqa: E402 -- of the tests
from guests.healthy import State  # noqa: E402
from kvmwhy.cli.attach import examine  # noqa: E402
from kvmwhy.live.host import host_facts  # noqa: E402
from kvmwhy.live.process import vmm  # noqa: E402

Case = Callable[[], AbstractContextManager[int]]
FAILING = ("real16-flds", "prot32-flds", "long64-flds", "long64-xsave64", "real16-jump", "long64-jump")


def look(pid: int, *, monitor: bool) -> bool:
    """Whether `attach PID` would report a failure."""
    with ExitStack() as stack:
        return bool(examine(vmm(pid), host_facts(), None, stack, ask=monitor, brief=False).failing)


@contextmanager
def failed(name: str, directory: Path, vcpus: int) -> Iterator[int]:
    guest = boot.GUESTS[name]
    with healthy.run(guest.image, directory, vcpus=vcpus, memory=guest.memory) as running:
        healthy.wait_until(running, {"internal-error"})
        yield running.pid


@contextmanager
def state(wanted: State, directory: Path) -> Iterator[int]:
    with healthy.run_state(wanted, directory) as running:
        yield running.pid


@contextmanager
def own(program: Path, *arguments: str) -> Iterator[int]:
    """The VMM of tests/live/vmm.c."""
    process = subprocess.Popen([program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--looks", type=int, default=500, help="at healthy VMs, and again at failed ones")
    parser.add_argument("--only", help="states whose name contains this")
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kvmwhy-") as name:
        directory = Path(name)
        program = directory / "vmm"
        subprocess.run(["cc", "-O2", "-pthread", "-o", program, ROOT / "tests" / "live" / "vmm.c"], check=True)
        calm: dict[str, Case] = {s.name: partial(state, s, directory) for s in healthy.STATES}
        calm["own VMM, MMIO"] = partial(own, program, "mmio", "1", "1", "1000000000", "exit")
        calm["own VMM, MMIO, 2 VMs of 2"] = partial(own, program, "mmio", "2", "2", "1000000000", "exit")
        calm["own VMM, waiting"] = partial(own, program, "mmio", "1", "2", "100", "hold")
        bad: dict[str, Case] = {
            f"{guest}, {n} vCPU": partial(failed, guest, directory, n) for guest in FAILING for n in (1, 2)
        }
        bad["own VMM, failed"] = partial(own, program, "prot32", "1", "1", "1", "hold")
        bad["own VMM, failed, 2 VMs of 3"] = partial(own, program, "long64", "2", "3", "1", "hold")
        bad["own VMM, shut down"] = partial(own, program, "triple", "1", "1", "1", "hold")
        for title, cases, wanted in (("healthy", calm, False), ("failed", bad, True)):
            chosen = {name: begin for name, begin in cases.items() if not wish.only or wish.only in name}
            wrong = looks = 0
            for n, (case, begin) in enumerate(chosen.items()):
                count = (n + 1) * wish.looks // len(chosen) - n * wish.looks // len(chosen)
                with begin() as pid:
                    missed = sum(look(pid, monitor=i % 2 == 0) != wanted for i in range(count))
                print(f"  {case:<34} {count:4} looks, {missed} wrong", flush=True)
                wrong, looks = wrong + missed, looks + count
            print(f"{looks} looks at {title} VMs: {wrong} wrong")


if __name__ == "__main__":
    main()

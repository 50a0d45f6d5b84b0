"""kvmwhy itself on an emulated host of another architecture: its own tests of what it does there, on real KVM.

    python -m lab.self_test arm64 [--kernel 7.3] [TEST ...]     one boot for each kernel; else the newest fetched one
    python -m lab.self_test arm64 --fetch [--kernel 7.3]        a kernel, and Debian's Python for it

Exit status: 0; 1 if a test failed; 2 usage; 3 if something is missing here; 4 if a mirror does not answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from lab import benches, command, kernels, userland
from lab.architectures import ARCHITECTURES
from lab.console import complain, say
from lab.kernels import Kernel
from lab.ready import NotReadyError, kernels_for, work_directory

ROOT: Final = Path(__file__).resolve().parent.parent
# What needs nothing but Python, capstone and KVM, for each architecture: files and directories below tests/.
TESTS: Final = {
    "arm64": (
        *("arch/arm64", "machine/test_bare_guest.py", "cli/test_probe_access.py", "live/test_other_hosts.py"),
        *("readers/trace/test_other_forms.py", "abi/test_esr.py"),
    ),
    "riscv64": (
        *("arch/riscv64", "machine/test_bare_guest.py", "cli/test_probe_access.py", "live/test_other_hosts.py"),
        "readers/trace/test_other_forms.py",
    ),
}
_IN_LAB: Final = "kvmwhy"  # the checkout's name there
_MEMORY: Final = 1024  # MB: the root file system is in it
# No conftest: what it sets up is for machines that are quick and may be shared.
_COMMAND: Final = (
    "mkdir -p /tmp && mount -t tmpfs tmpfs /tmp; cd /{at} && "
    "PYTHONPATH=/{at}/src:/{at}/tests PYTHONDONTWRITEBYTECODE=1 KVMWHY_REQUIRE_LIVE=1 "
    "python3 -m pytest -q --noconftest -p no:cacheprovider -c /{at}/pytest.ini --import-mode=importlib {tests} 2>&1"
)
_SETTINGS: Final = b"[pytest]\nmarkers =\n    live: starts a real guest\n"
_LIMIT: Final = 600.0  # seconds for one boot


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lab/self_test.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("architecture", choices=sorted(TESTS))
    parser.add_argument("tests", nargs="*", metavar="TEST", help="below tests/; else those of the architecture")
    parser.add_argument(
        "--kernel", action="append", default=[], metavar="SERIES", help="such as 7.3; may be given again"
    )
    parser.add_argument("--kernel-args", default="", help="such as kvm-arm.mode=nvhe")
    parser.add_argument("--fetch", action="store_true")
    parser.add_argument("--mirror", default=kernels.MIRROR)
    parser.add_argument("--work", type=Path, default=work_directory())
    options = parser.parse_intermixed_args(arguments)
    options.work = options.work.absolute()
    architecture = ARCHITECTURES[options.architecture]
    if options.fetch:
        steps = [
            *kernels.fetch(options.work, options.kernel, options.mirror, architecture),
            *userland.fetch(options.work, architecture, options.mirror),
        ]
        for step in steps:
            say(step.text)
        return kernels.status_of(steps)
    command_to_fetch = f"python -m lab.self_test {options.architecture} --fetch"
    try:
        chosen = kernels_for(options.architecture, options.work, options.kernel, fetch=command_to_fetch)
    except NotReadyError as error:
        complain(str(error))
        return 3
    if not userland.is_fetched(options.work, architecture):
        complain(f"no Python for it in {options.work}: run `{command_to_fetch}` first")
        return 3
    outcomes = [run(options, kernel) for kernel in (chosen if options.kernel else chosen[-1:])]
    return max(outcomes)


def run(options: argparse.Namespace, kernel: Kernel) -> int:
    """Boot one kernel, run the tests, and show what pytest said."""
    name, work = options.architecture, options.work
    tests = tuple(options.tests) or TESTS[name]
    try:
        output = command.run(
            *(name, kernel, _COMMAND.format(at=_IN_LAB, tests=" ".join(f"tests/{test}" for test in tests)), work),
            files=dict(checkout(tests)),
            root=userland.root_of(work, ARCHITECTURES[name]),
            kernel_args=options.kernel_args,
            memory=_MEMORY,
            limit=_LIMIT,
            scratch="self-test",
        )
    except benches.BenchError as error:
        complain(f"{kernel.release}: {error}")
        return 1
    sys.stdout.write(output.data.decode("utf-8", "replace"))
    sys.stdout.write(f"{kernel.release}: status {output.status}, {output.seconds:.0f} s with the boot\n")
    return 0 if output.status == 0 else 1


def checkout(tests: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Kvmwhy's sources, these tests, the modules that tests share, and pytest's settings."""
    wanted = [*(ROOT / "src").rglob("*"), *(ROOT / "tests").glob("*.py")]
    for test in tests:
        path = ROOT / "tests" / test.partition("::")[0]
        wanted += [path] if path.is_file() else path.rglob("*.py")
    for path in dict.fromkeys(wanted):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{_IN_LAB}/{path.relative_to(ROOT)}", path.read_bytes()
    yield f"{_IN_LAB}/pytest.ini", _SETTINGS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

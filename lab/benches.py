"""The emulated machines: power one on with a kernel and an initramfs, and take what it writes to its serial line.

QEMU's TCG has AMD's SVM with nested paging, Arm's EL2 and RISC-V's H extension; Bochs has Intel's VMX with EPT. They
need no hardware virtualization and no root; none is silicon.

KVMWHY_LAB_QEMU names a directory of unpacked packages whose QEMU is taken (DIR/usr/bin, DIR/usr/share/qemu), and
KVMWHY_LAB_CPU another CPU than the bench's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from lab.architectures import ARM64, RISCV64, X86, Architecture
from lab.kernels import Kernel, busybox

HERE: Final = Path(__file__).parent
_SLICE: Final = 0.2
_GRACE: Final = 10.0  # seconds for the power-off, after all has been said


class Bench(NamedTuple):
    """``module``: KVM's, as the kernel spells it; ``None`` where it is built in. ``cpu``: as QEMU or Bochs names it.

    ``drain``: seconds that its serial line takes to empty.
    """

    name: str
    architecture: Architecture
    module: str | None
    cpu: str
    emulator: tuple[str, ...]
    console: str
    needs: dict[str, str]  # what it needs, and the Debian package that has it
    drain: int = 0


_OPENSBI: Final = "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin"
_BOCHS_NEEDS: Final = {
    "bochs": "bochs bochs-term",
    "xorriso": "xorriso",
    "/usr/share/bochs/BIOS-bochs-latest": "bochsbios",
    "/usr/share/vgabios/vgabios.bin": "vgabios",
    "/usr/lib/ISOLINUX/isolinux.bin": "isolinux",
    "/usr/lib/syslinux/modules/bios/ldlinux.c32": "syslinux-common",
}
_ALL: Final = (
    Bench(
        *("svm", X86, "kvm_amd", "max", ("qemu-system-x86_64", "-M", "pc"), "ttyS0"),
        {"qemu-system-x86_64": "qemu-system-x86"},
    ),
    # Newer models report XSAVE sizes that kernels refuse.
    Bench("vmx", X86, "kvm_intel", "corei7_haswell_4770", ("bochs",), "ttyS0,115200", _BOCHS_NEEDS, 4),
    # Pointer authentication by the architecture's own algorithm makes the kernel three times as slow under TCG.
    Bench(
        *("arm64", ARM64, None, "max,pauth-impdef=on"),
        ("qemu-system-aarch64", "-M", "virt,virtualization=on,gic-version=3"),
        "ttyAMA0",
        {"qemu-system-aarch64": "qemu-system-arm"},
    ),
    Bench(
        *("riscv64", RISCV64, "kvm", "rv64,h=true,v=true"),
        ("qemu-system-riscv64", "-M", "virt"),  # its firmware is opensbi's, by default
        "ttyS0",
        {"qemu-system-riscv64": "qemu-system-misc", _OPENSBI: "opensbi"},
    ),
)
BENCHES: Final = {bench.name: bench for bench in _ALL}

_KERNEL_ARGS: Final = "panic=-1 quiet mitigations=off rcupdate.rcu_expedited=1"
_BOCHS_ARGS: Final = "nokaslr tsc=reliable no_timer_check cryptomgr.notests"
_BOCHSRC: Final = """\
config_interface: textconfig
display_library: rfb, options="timeout=0"
plugin_ctrl: voodoo=0
megs: 512
cpu: model={cpu}, count=1, ips=100000000, quantum=16, reset_on_triple_fault=0, ignore_bad_msrs=1
clock: sync=none, time0=1700000000
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
ata0-master: type=cdrom, path={disc}, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={serial}
speaker: enabled=0
sound: waveoutdrv=dummy
log: {log}
debugger_log: -
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""


class BenchError(RuntimeError):
    """The bench did not come to an end with an output."""


def missing(name: str) -> dict[str, str]:
    """What this bench needs and does not find: name and Debian package."""
    bench = BENCHES.get(name)
    needs = {**bench.architecture.needs, **bench.needs} if bench else X86.needs
    return {n: p for n, p in needs.items() if not (Path(n).exists() if n.startswith("/") else shutil.which(n))}


def version(name: str) -> str:
    """The emulator and its CPU, for the provenance of what is measured on it."""
    bench = BENCHES[name]
    if name == "vmx":
        package = subprocess.run(
            ["dpkg-query", "-W", "-f", "Bochs ${Version}", "bochs"], capture_output=True, text=True, check=False
        )
        return f"{package.stdout or 'Bochs'}, cpu {bench.cpu}"
    text = subprocess.run([_emulator(bench)[0], "--version"], capture_output=True, text=True, check=True).stdout
    return f"{text.splitlines()[0]}, TCG, cpu {_cpu(bench)}"


def _emulator(bench: Bench) -> tuple[str, ...]:
    root = os.environ.get("KVMWHY_LAB_QEMU")
    if not root:
        return bench.emulator
    program, *machine = bench.emulator
    return (f"{root}/usr/bin/{program}", *machine, "-L", f"{root}/usr/share/qemu")


def _cpu(bench: Bench) -> str:
    return os.environ.get("KVMWHY_LAB_CPU") or bench.cpu


def build(name: str, target: Path, architecture: Architecture = X86) -> Path:
    """Compile a program of this directory, unless that has been done since it was last changed."""
    source = HERE / name
    changed = max(path.stat().st_mtime for path in (source, *HERE.glob("*.h")))
    if not target.exists() or target.stat().st_mtime < changed:
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = ("-O2", "-static", "-std=gnu11", "-Wall", "-Wextra", "-Werror")
        subprocess.run([architecture.compiler, *flags, "-o", target, source], check=True)
    return target


def first_process(name: str, kernel: Kernel, init: bytes, work: Path, settings: dict[str, str]) -> dict[str, bytes]:
    """What every initramfs has: init, busybox, KVM's modules, and ``lab.conf``, which init reads. Raises BenchError.

    Its MODULES are KVM's in the order of insmod; DRAIN is how long the serial line takes after the last word.
    """
    bench = BENCHES[name]
    try:
        modules = kernel.modules(bench.module)
        shell = busybox(work, bench.architecture).read_bytes()
    except FileNotFoundError as error:
        raise BenchError(f"not fetched whole: {error}") from None
    settings = {"MODULES": " ".join(path.stem for path in modules), "DRAIN": str(bench.drain), **settings}
    return {
        "init": init,
        "bin/busybox": shell,
        "lab.conf": "".join(f"{key}='{value}'\n" for key, value in settings.items()).encode(),
        **{f"modules/{path.name}": path.read_bytes() for path in modules},
    }


def power_on(name: str, kernel: Kernel, initrd: Path, limit: float, *, memory: int = 512, kernel_args: str = "") -> str:
    """Boot it until it ends, or for so many seconds; the text of its console. Scratch files lie beside ``initrd``.

    ``memory`` in MB, for QEMU's machines.
    """
    bench = BENCHES[name]
    if name == "vmx":
        return _bochs(bench, kernel, initrd, limit, kernel_args)
    serial = initrd.with_name("console")
    command = (
        *(*_emulator(bench), "-accel", "tcg", "-cpu", _cpu(bench), "-smp", "1", "-m", str(memory)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", f"file:{serial}"),
        *("-kernel", str(kernel.image), "-initrd", str(initrd)),
        *("-append", f"console={bench.console} {_KERNEL_ARGS} {kernel_args}".strip()),
    )
    return watch(command, serial, limit, initrd.with_name("qemu.out"))


def _bochs(bench: Bench, kernel: Kernel, initrd: Path, limit: float, kernel_args: str) -> str:
    scratch = initrd.parent
    disc, serial, rc = scratch / "disc.iso", scratch / "console", scratch / "go"
    root = scratch / "disc"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name in ("/usr/lib/ISOLINUX/isolinux.bin", "/usr/lib/syslinux/modules/bios/ldlinux.c32"):
        shutil.copy(name, root)
    shutil.copy(kernel.image, root / "vmlinuz")
    shutil.copy(initrd, root / "initrd")
    arguments = f"console={bench.console} {_KERNEL_ARGS} {_BOCHS_ARGS} {kernel_args}".strip()
    (root / "isolinux.cfg").write_text(
        f"DEFAULT lab\nPROMPT 0\nTIMEOUT 1\nLABEL lab\n KERNEL /vmlinuz\n INITRD /initrd\n APPEND {arguments}\n"
    )
    burn = ("-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table")
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", disc, *burn, root], check=True, capture_output=True)
    configuration = scratch / "bochsrc"
    configuration.write_text(_BOCHSRC.format(cpu=bench.cpu, disc=disc, serial=serial, log=scratch / "bochs.log"))
    rc.write_text("c\n")  # Debian's build starts in its debugger
    command = ("bochs", "-q", "-unlock", "-f", str(configuration), "-rc", str(rc))
    return watch(command, serial, limit, scratch / "bochs.out")


def watch(command: Sequence[str], serial: Path, limit: float, chatter: Path) -> str:
    """Run it until it ends by itself, its power-off takes too long, or the limit is reached."""
    serial.unlink(missing_ok=True)
    started = time.monotonic()
    over: float | None = None
    with chatter.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                time.sleep(_SLICE)
                now = time.monotonic()
                said = serial.read_bytes() if serial.exists() else b""
                if b"@@end" in said or b"Kernel panic" in said:
                    over = over or now
                if now - started > limit or (over and now - over > _GRACE):
                    break
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    return serial.read_text(errors="replace").replace("\r", "") if serial.exists() else ""

"""Boots a kernel on a bench, has it run the cases, and takes the outcomes from its serial line.

Two benches: QEMU's TCG has AMD's SVM with nested paging, Bochs has Intel's VMX with EPT. Both need
no hardware virtualization and no root; neither is silicon.
"""

from __future__ import annotations

import base64
import gzip
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from kvmwhy.machine.x86.state import replace
from lab.cases import Case, pack_all
from lab.kernels import Kernel

HERE: Final = Path(__file__).parent
VENDOR_MODULE: Final = {"svm": "kvm_amd", "vmx": "kvm_intel"}
# What each bench needs, and the Debian package that has it.
_NEEDS: Final = {
    "svm": {"qemu-system-x86_64": "qemu-system-x86"},
    "vmx": {
        "bochs": "bochs bochs-term",
        "xorriso": "xorriso",
        "/usr/share/bochs/BIOS-bochs-latest": "bochsbios",
        "/usr/share/vgabios/vgabios.bin": "vgabios",
        "/usr/lib/ISOLINUX/isolinux.bin": "isolinux",
        "/usr/lib/syslinux/modules/bios/ldlinux.c32": "syslinux-common",
    },
}
_ALWAYS: Final = {"gcc": "gcc libc6-dev", "/bin/busybox": "busybox-static"}
_GRACE: Final = 10.0  # seconds for the power-off, after all has been said
_SLICE: Final = 0.2

BOCHS_CPU: Final = "corei7_haswell_4770"  # newer models report XSAVE sizes that kernels refuse
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
_CMDLINE: Final = "panic=-1 quiet mitigations=off rcupdate.rcu_expedited=1"
_BOCHS_CMDLINE: Final = f"console=ttyS0,115200 {_CMDLINE} nokaslr tsc=reliable no_timer_check cryptomgr.notests"


def _for_tcg(case: Case) -> Case:
    """QEMU aborts when a 32-bit TSS that is busy, as VMRUN's is, gives it a stack: let it be available.

    An AMD CPU and its KVM do not look at this bit. Intel's CPUs insist on it.
    """
    if case.facts and case.facts.mode == "prot32" and case.sregs.tr.type == 11:
        return replace(case, sregs=replace(case.sregs, tr=replace(case.sregs.tr, type=9)))
    return case


_ADAPT: Final[dict[str, Callable[[Case], Case]]] = {"svm": _for_tcg, "vmx": lambda case: case}


class Said(NamedTuple):
    """What a boot left on the serial line, taken apart."""

    outcomes: bytes  # JSON lines
    marks: dict[str, str]  # release, version, cpu, and uptimes
    parameters: dict[str, str]
    failed: tuple[str, ...]
    seconds: float  # from power-on to power-off
    text: str


class BenchError(RuntimeError):
    """The bench did not come to an end with outcomes."""


def missing(bench: str) -> dict[str, str]:
    """What this bench needs and does not find: name and Debian package."""
    needs = {**_ALWAYS, **_NEEDS.get(bench, {})}
    return {n: p for n, p in needs.items() if not (Path(n).exists() if n.startswith("/") else shutil.which(n))}


def build(name: str, target: Path) -> Path:
    """Compile a program of this directory, unless that has been done since it was last changed."""
    source = HERE / name
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = ("-O2", "-static", "-std=gnu11", "-Wall", "-Wextra", "-Werror")
        subprocess.run(["gcc", *flags, "-o", target, source], check=True)
    return target


def boot(bench: str, kernel: Kernel, cases: Sequence[Case], work: Path, *, module_args: str = "", limit: float) -> Said:
    """Run the cases on that kernel. Raises BenchError if no outcomes come within ``limit`` seconds."""
    scratch = work / bench / kernel.release
    scratch.mkdir(parents=True, exist_ok=True)
    modules = kernel.modules(VENDOR_MODULE[bench])
    config = {
        "MODULES": " ".join(path.stem for path in modules),
        "ARGS": module_args,
        "KVM_ARGS": "",
        "DRAIN": "4" if bench == "vmx" else "0",
    }
    files = {
        "init": (HERE / "init").read_bytes(),
        "bin/busybox": Path("/bin/busybox").read_bytes(),
        "replay": build("replay.c", work / "replay").read_bytes(),
        "cases.gz": gzip.compress(pack_all(map(_ADAPT[bench], cases)), mtime=0),
        "lab.conf": "".join(f"{key}='{value}'\n" for key, value in config.items()).encode(),
        **{f"modules/{path.name}": path.read_bytes() for path in modules},
    }
    initrd = scratch / "initrd"
    initrd.write_bytes(_cpio(files))
    start = time.monotonic()
    text = _qemu(kernel, initrd, limit) if bench == "svm" else _bochs(kernel, initrd, scratch, limit)
    seconds = time.monotonic() - start
    (scratch / "serial.txt").write_text(text)
    return _understand(text, seconds, cases, scratch / "serial.txt")


def _understand(text: str, seconds: float, cases: Sequence[Case], where: Path) -> Said:
    marks: dict[str, str] = {}
    parameters: dict[str, str] = {}
    failed: list[str] = []
    encoded: list[str] = []
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "@@parameter":
            key, _, setting = value.partition("=")
            parameters[key] = setting
        elif name == "@@failed":
            failed.append(value)
        elif name.startswith("@@"):
            marks[name[2:]] = value
        elif "outcomes" in marks and "end" not in marks:
            encoded.append(line)
    if "end" not in marks:
        last = cases[int(marks["case"])].id if "case" in marks else next(reversed(marks), "not even init")
        raise BenchError(f"it stopped after {seconds:.0f} s; the last it said was: {last}; see {where}")
    try:
        outcomes = gzip.decompress(base64.b64decode("".join(encoded)))
    except (ValueError, EOFError, OSError) as error:
        raise BenchError(f"the outcomes were torn on their way: {error}; see {where}") from None
    if not outcomes:
        raise BenchError(f"no outcomes: {'; '.join(failed) or 'replay printed nothing'}; see {where}")
    return Said(outcomes, marks, parameters, tuple(failed), seconds, text)


def _qemu(kernel: Kernel, initrd: Path, limit: float) -> str:
    serial = initrd.with_name("console")
    command = (
        *("qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "512"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", f"file:{serial}"),
        *("-kernel", str(kernel.image), "-initrd", str(initrd), "-append", f"console=ttyS0 {_CMDLINE}"),
    )
    return _watch(command, serial, limit, initrd.with_name("qemu.out"))


def _bochs(kernel: Kernel, initrd: Path, scratch: Path, limit: float) -> str:
    disc, serial, rc = scratch / "disc.iso", scratch / "console", scratch / "go"
    root = scratch / "disc"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name in ("/usr/lib/ISOLINUX/isolinux.bin", "/usr/lib/syslinux/modules/bios/ldlinux.c32"):
        shutil.copy(name, root)
    shutil.copy(kernel.image, root / "vmlinuz")
    shutil.copy(initrd, root / "initrd")
    (root / "isolinux.cfg").write_text(
        f"DEFAULT lab\nPROMPT 0\nTIMEOUT 1\nLABEL lab\n KERNEL /vmlinuz\n INITRD /initrd\n APPEND {_BOCHS_CMDLINE}\n"
    )
    burn = ("-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table")
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", disc, *burn, root], check=True, capture_output=True)
    configuration = scratch / "bochsrc"
    configuration.write_text(_BOCHSRC.format(cpu=BOCHS_CPU, disc=disc, serial=serial, log=scratch / "bochs.log"))
    rc.write_text("c\n")  # Debian's build starts in its debugger
    command = ("bochs", "-q", "-unlock", "-f", str(configuration), "-rc", str(rc))
    return _watch(command, serial, limit, scratch / "bochs.out")


def _watch(command: Sequence[str], serial: Path, limit: float, chatter: Path) -> str:
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


def _cpio(files: dict[str, bytes]) -> bytes:
    """An archive in the kernel's "newc" format, with all directories and everything executable."""
    directories = sorted({str(p) for name in files for p in Path(name).parents if str(p) != "."})
    archive = bytearray()
    for number, (name, mode, data) in enumerate(_entries(directories, files), start=1):
        size_of_name = len(name) + 1
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, size_of_name, 0)
        archive += b"070701" + "".join(f"{field:08X}" for field in fields).encode()
        archive += name.encode() + b"\0" * (1 + -(110 + size_of_name) % 4)
        archive += data + b"\0" * (-len(data) % 4)
    return bytes(archive)


def _entries(directories: Sequence[str], files: dict[str, bytes]) -> Iterator[tuple[str, int, bytes]]:
    for name in directories:
        yield name, 0o040755, b""
    for name, data in files.items():
        yield name, 0o100755, data
    yield "TRAILER!!!", 0, b""

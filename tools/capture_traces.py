"""Regenerate tests/fixtures/trace: traces of guests that KVM gives up on, in every form a trace has.

    python tools/capture_traces.py [RELEASE ...]
    python tools/capture_traces.py here

Each kernel of the lab (``python lab/run.py fetch``) is booted under QEMU's TCG with its own kvm-amd and traced
with tracefs, trace-cmd and perf of this system. Two CPUs, so that vCPU threads move; some guests run at once.
`here` traces one VM with two vCPUs, each in a thread of its own, on this host's /dev/kvm (needs root): the module
kvm_pvm has neither kvm_entry nor kvm_exit.
Exit status: 0; 1 if a kernel gave nothing; 3 if something is missing here.
"""

import argparse
import base64
import contextlib
import datetime as dt
import gzip
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "trace"
PVM_FIXTURES = ROOT / "tests" / "fixtures" / "trace-pvm"
LIMIT = 300.0  # seconds for one kernel
SERIES = ("5.10", "6.1", "7.3")
PLUGINS = Path("/usr/lib/x86_64-linux-gnu/traceevent/plugins")
LIBRARIES = "lib/x86_64-linux-gnu"

# One after the other, then the last four at once.
CASES = (
    "long64/0/stock/data/flds",  # told to userspace, suberror 1
    "long64/3/stock/data/flds",  # silent: #UD for the guest
    "long64/3/cap204/data/flds",  # told, as asked for
    "long64/0/stock/fetch/jmp",  # no byte could be fetched
    "real16/0/stock/data/flds",
    "prot32/3/stock/data/flds",  # silent
    "long64/0/stock/event-idt/ud2",
    "long64/0/stock/entry/cs-base-high",
    "long64/0/stock/entry/cs-l-d",  # VMRUN refuses
)
TOGETHER = (
    "long64/0/stock/data/fxsave",
    "long64/3/stock/data/fxsave",
    "prot32/0/stock/data/flds",
    "compat32/3/stock/data/flds",
)

INIT = r"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /out /out/raw /out/lost
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
echo 1 > /proc/sys/kernel/printk
. /trace.conf   # MODULES
for module in $MODULES; do insmod "/modules/$module.ko"; done
uname -r > /out/release
mount --bind /empty /proc/kallsyms   # a megabyte that no reader of ours needs
zcat /cases.gz > /cases
T=/sys/kernel/tracing; mount -t tracefs tracefs $T
cat $T/events/header_page $T/events/kvm/*/format $T/events/kvmmmu/handle_mmio_page_fault/format > /out/formats.txt

read_raw() {  # INSTANCE TARGET; a read gives one page, or blocks
    for cpu in 0 1; do timeout 2 dd if="$1/per_cpu/cpu$cpu/trace_pipe_raw" of="$2/cpu$cpu" bs=4096 2> /dev/null; done
}

I=$T/instances/here; mkdir $I
echo 1 > $I/options/record-tgid
echo 1 > $I/events/kvm/enable; echo 1 > $I/events/kvmmmu/handle_mmio_page_fault/enable
/run.sh; echo 0 > $I/tracing_on
cat $I/trace > /out/tgid.txt
echo 0 > $I/options/record-tgid; cat $I/trace > /out/plain.txt
echo 0 > $I/options/irq-info; cat $I/trace > /out/no-irq-info.txt; echo 1 > $I/options/irq-info
echo 1 > $I/options/latency-format; cat $I/trace > /out/latency.txt; echo 0 > $I/options/latency-format
read_raw $I /out/raw
echo 0 > $I/events/enable; rmdir $I

I=$T/instances/small; mkdir $I; echo 4 > $I/buffer_size_kb
echo 1 > $I/events/kvm/enable
cat $I/trace_pipe > /out/pipe.txt & pipe=$!
/run.sh; sleep 1; kill -STOP $pipe; /run.sh; kill -CONT $pipe; sleep 1; kill $pipe; /run.sh
dd if=$I/per_cpu/cpu0/trace_pipe_raw of=/out/lost/first0 bs=4096 count=1 2> /dev/null & sleep 1; kill $!
dd if=$I/per_cpu/cpu1/trace_pipe_raw of=/out/lost/first1 bs=4096 count=1 2> /dev/null & sleep 1; kill $!
/run.sh; /run.sh; read_raw $I /out/lost
echo 0 > $I/events/enable; rmdir $I

cd /out
trace-cmd record -e kvm -e handle_mmio_page_fault -o v7-zstd.dat /run.sh > /out/trace-cmd.log 2>&1
trace-cmd convert -i v7-zstd.dat -o v7-none.dat --compression none >> /out/trace-cmd.log 2>&1
trace-cmd convert -i v7-zstd.dat -o v6.dat --file-version 6 >> /out/trace-cmd.log 2>&1
trace-cmd report -i v7-zstd.dat > report.txt 2> /dev/null
trace-cmd report -N -i v7-zstd.dat > report-no-plugins.txt 2> /dev/null
trace-cmd report -R -i v7-zstd.dat > report-raw.txt 2> /dev/null
trace-cmd report -l -i v7-zstd.dat > report-latency.txt 2> /dev/null
trace-cmd report -t -i v7-zstd.dat > report-ns.txt 2> /dev/null
perf record -a -e 'kvm:*' -o /perf.data /run.sh > /out/perf.log 2>&1
perf script -i /perf.data > perf.txt 2>> /out/perf.log
perf script -F comm,pid,tid,cpu,time,event,trace -i /perf.data > perf-tid.txt 2>> /out/perf.log
perf script --ns -i /perf.data > perf-ns.txt 2>> /out/perf.log
echo "@@out"
tar -C / -cz out | base64
echo "@@end"
sleep 1
echo o > /proc/sysrq-trigger
sleep 5
"""

RUN = """#!/bin/busybox sh
for id in {one}; do /replay /cases $id > /dev/null; done
for id in {together}; do /replay /cases $id > /dev/null & done
wait
exit 0
"""


def program(path: str) -> dict[str, bytes]:
    """A dynamic program and what it needs, by its place in the machine."""
    listing = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
    libraries = re.findall(r"(/\S+) \(0x", listing)
    files = {f"{LIBRARIES}/{Path(lib).name}": Path(lib).read_bytes() for lib in libraries}
    files["lib64/ld-linux-x86-64.so.2"] = Path("/lib64/ld-linux-x86-64.so.2").read_bytes()
    return {**files, f"bin/{Path(path).name}": Path(path).read_bytes()}


def initrd(kernel: "kernels.Kernel", work: Path) -> bytes:
    chosen = [case for case in catalogue() if case.id in {*CASES, *TOGETHER}]
    if missing := {*CASES, *TOGETHER} - {case.id for case in chosen}:
        raise KeyError(f"the lab has no case {', '.join(sorted(missing))}")
    modules = kernel.modules("kvm_amd")
    run = RUN.format(one=" ".join(CASES), together=" ".join(TOGETHER))
    perf = "/usr/bin/perf"
    tools = [os.path.realpath(shutil.which(name) or name) for name in ("trace-cmd", perf)]
    files = {
        "init": INIT.encode(),
        "run.sh": run.encode(),
        "empty": b"",
        "trace.conf": f"MODULES='{' '.join(path.stem for path in modules)}'\n".encode(),
        "bin/busybox": Path("/bin/busybox").read_bytes(),
        "replay": benches.build("replay.c", work / "replay").read_bytes(),
        "cases.gz": gzip.compress(pack_all(map(boot.ADAPT["svm"], chosen)), mtime=0),
        f"usr/{LIBRARIES}/traceevent/plugins/plugin_kvm.so": (PLUGINS / "plugin_kvm.so").read_bytes(),
        **{f"modules/{path.name}": path.read_bytes() for path in modules},
    }
    for tool in tools:
        files |= program(tool)
    return initramfs.pack(files)


def capture(kernel: "kernels.Kernel", work: Path) -> dict[str, bytes]:
    """Boot it; the files under /out, by name. Raises ValueError if they did not come."""
    scratch = work / "trace" / kernel.release
    scratch.mkdir(parents=True, exist_ok=True)
    archive = scratch / "initrd"
    archive.write_bytes(initrd(kernel, work))
    serial = scratch / "console"
    command = (  # one thread: patching of code while the other CPU runs it is not emulated right
        *("qemu-system-x86_64", "-M", "pc", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "1024"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", f"file:{serial}"),
        *("-kernel", str(kernel.image), "-initrd", str(archive)),
        *("-append", "console=ttyS0 panic=-1 quiet mitigations=off rcupdate.rcu_expedited=1"),
    )
    said = benches.watch(command, serial, LIMIT, scratch / "qemu.out")
    found = re.search(r"@@out\n(.*?)\n@@end", said, re.DOTALL)
    if not found:
        raise ValueError(f"{kernel.release}: no end; see {serial}")
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(found[1]))) as tar:
        members = ((member.name, tar.extractfile(member)) for member in tar)
        return {name.removeprefix("out/"): stream.read() for name, stream in members if stream}


TWO_VCPUS = """
import sys, threading
from kvmwhy.machine import Guest, KvmMachine, Mmio, replace
guest = Guest("long64", bytes.fromhex("8a 03 88 03 d9 03"), regs={"rbx": 0xD0000000})  # mov, mov back, flds

def run(vcpu):
    while isinstance(exit := vcpu.run(timeout=2.0), Mmio):
        if not exit.is_write:
            vcpu.complete(bytes([vcpu.id]) * exit.len)

sys.stdin.readline()  # until it is traced
with KvmMachine() as machine:
    guest.place(machine)
    vcpus = [guest.add_vcpu(machine) for _ in range(2)]
    vcpus[1].set_regs(replace(guest.start_regs(1), rbx=0xE0000000))
    threads = [threading.Thread(target=run, args=(vcpu,)) for vcpu in vcpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def capture_here(target: Path) -> None:
    """Text, and raw pages, of the same buffer: an instance of tracefs that sees this program alone."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["mount", "-t", "tracefs", "tracefs", scratch], check=True)
        instance = Path(scratch, "instances", f"kvmwhy-{os.getpid()}")
        try:
            instance.mkdir()
            (instance / "options/event-fork").write_text("1")
            with subprocess.Popen([sys.executable, "-c", TWO_VCPUS], stdin=subprocess.PIPE) as guests:
                (instance / "set_event_pid").write_text(str(guests.pid))
                (instance / "events/kvm/enable").write_text("1")
                guests.communicate(b"go\n")
            (instance / "tracing_on").write_text("0")
            files = {"plain.txt": (instance / "trace").read_bytes()}
            for cpu in sorted((instance / "per_cpu").iterdir()):
                fd = os.open(cpu / "trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
                with contextlib.suppress(BlockingIOError), os.fdopen(fd, "rb", buffering=0) as raw:
                    while page := raw.read(4096):
                        files[f"raw/{cpu.name}"] = files.get(f"raw/{cpu.name}", b"") + page
            events = Path(scratch, "events")
            formats = [events / "header_page", *sorted((events / "kvm").glob("*/format"))]
            files["formats.txt"] = b"".join(path.read_bytes() for path in formats)
            (instance / "events/kvm/enable").write_text("0")
        finally:
            instance.rmdir()
            subprocess.run(["umount", scratch], check=True)
    provenance: dict[str, object] = {
        "kernel": platform.release(),
        "module": "kvm_pvm",
        "vmm": "kvmwhy.machine: one VM, two vCPUs, each in its own thread",
        "guest": "mov (%rbx),%al; mov %al,(%rbx); flds (%rbx): the third is what the emulator cannot do",
        "command": "python tools/capture_traces.py here",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }
    write(target, files, provenance)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("release", nargs="*", default=SERIES)
    parser.add_argument("--work", type=Path, default=work_directory())
    parser.add_argument("--target", type=Path, default=FIXTURES)
    options = parser.parse_args()
    if options.release == ["here"]:
        capture_here(PVM_FIXTURES)
        return 0
    lacks = [name for name in ("trace-cmd", "perf", "gcc", "qemu-system-x86_64") if not shutil.which(name)]
    if lacks or not kernels.fetched(options.work):
        print(f"capture_traces: no {', '.join(lacks) or 'kernels; run python lab/run.py fetch'}", file=sys.stderr)
        return 3
    failed = False
    for kernel in kernels.choose(options.work, list(options.release)):
        try:
            files = capture(kernel, options.work)
        except ValueError as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        keep(options.target / kernel.release, kernel, files)
        print(f"{kernel.release}: {len(files)} files, {sum(map(len, files.values()))} bytes")
    return int(failed)


def keep(target: Path, kernel: "kernels.Kernel", files: dict[str, bytes]) -> None:
    versions = {
        name: subprocess.run([name, "--version"], check=False, capture_output=True, text=True).stdout.strip()
        for name in ("qemu-system-x86_64", "trace-cmd", "perf")
    }
    provenance: dict[str, object] = {
        "kernel": kernel.release,
        "module": "kvm_amd",
        "bench": "QEMU TCG, -cpu max, two CPUs",
        "vmm": "lab/replay.c",
        "tools": {name: said.strip().splitlines()[0] for name, said in versions.items() if said.strip()},
        "command": "python tools/capture_traces.py",
        "cases": {"one after the other": CASES, "at once": TOGETHER},
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "note": "/proc/kallsyms was empty in that machine; every file is as its tool wrote it, compressed",
    }
    write(target, {n: d for n, d in files.items() if n != "release" and not n.endswith(".log")}, provenance)


def write(target: Path, files: dict[str, bytes], provenance: dict[str, object]) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for name, data in sorted(files.items()):
        path = target / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data, mtime=0))
    (target / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, os.fspath(ROOT))
    from lab import benches, boot, initramfs, kernels
    from lab.cases import pack_all
    from lab.catalogue import catalogue
    from lab.ready import work_directory

    sys.exit(main())

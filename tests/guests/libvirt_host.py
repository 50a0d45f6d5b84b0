"""A libvirtd of the tests' own: in a mount namespace, so that nothing of the host's libvirt is used or changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from guests import healthy

PATIENCE = 30.0  # seconds, for what takes one
NEEDED = ("libvirtd", "virsh", "unshare", "nsenter", "qemu-system-x86_64")
# Fresh directories where libvirt keeps what it knows; a configuration without what containers forbid.
SET_UP = """
set -e
mount -t tmpfs none /run
mkdir -p /run/lock
for directory in lib log cache; do
    mkdir -p /var/$directory/libvirt
    mount -t tmpfs none /var/$directory/libvirt
done
mkdir -p /var/lib/libvirt/qemu /var/log/libvirt/qemu
mount --bind "$1/qemu.conf" /etc/libvirt/qemu.conf
exec libvirtd -f "$1/libvirtd.conf" -p "$1/pid"
"""
QEMU_CONF = """security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
user = "root"
group = "root"
"""
DOMAIN = """<domain type='kvm'><name>{name}</name><memory unit='MiB'>16</memory><vcpu>{vcpus}</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><loader readonly='yes' type='rom'>{firmware}</loader></os>
<cpu mode='host-passthrough' check='none' migratable='off'><feature policy='disable' name='arch-capabilities'/></cpu>
<devices><emulator>{qemu}</emulator><controller type='usb' model='none'/><memballoon model='none'/>
<video><model type='vga'/></video></devices></domain>"""


def unavailable() -> str | None:
    """Why there can be no libvirtd here, or None."""
    if os.geteuid() != 0:
        return "a libvirtd in a mount namespace takes root"
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else None


class Libvirt:
    """Runs from construction to the end of the context; its domains end with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "qemu.conf").write_text(QEMU_CONF)
        (directory / "libvirtd.conf").write_text(f'auth_unix_rw = "none"\nlog_outputs = "3:file:{directory}/log"\n')
        self._domains: list[str] = []
        self._process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", SET_UP, "sh", directory],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + PATIENCE
        while self.virsh("list", check=False).returncode:
            assert self._process.poll() is None, self._process.communicate()[1].decode()
            assert time.monotonic() < deadline, "libvirtd does not answer"
            time.sleep(0.1)

    def inside(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command that sees this libvirt as the host's."""
        line = ["nsenter", "--mount", "--wd", "--target", str(self._process.pid), *map(str, command)]
        return subprocess.run(line, capture_output=True, text=True, check=check, timeout=2 * PATIENCE)

    def virsh(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.inside("virsh", "-q", "-c", "qemu:///system", *arguments, check=check)

    def kvmwhy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.inside(sys.executable, "-m", "kvmwhy", *arguments, check=False)

    def start(self, name: str, image: bytes, vcpus: int = 1) -> None:
        """A domain whose firmware is this image."""
        firmware = self.directory / f"{name}.bin"
        firmware.write_bytes(image)
        description = self.directory / f"{name}.xml"
        qemu = shutil.which("qemu-system-x86_64")
        description.write_text(DOMAIN.format(name=name, vcpus=vcpus, firmware=firmware, qemu=qemu))
        self.virsh("create", str(description))
        self._domains.append(name)

    def state(self, name: str) -> str:
        return self.virsh("domstate", name, "--reason").stdout.strip()

    def wait_for(self, name: str, state: str) -> None:
        deadline = time.monotonic() + healthy.PATIENCE
        while (now := self.state(name)) != state:
            assert time.monotonic() < deadline, now
            time.sleep(0.1)

    def pid(self, name: str) -> int:
        return int(self.inside("cat", f"/run/libvirt/qemu/{name}.pid").stdout)

    def stop(self, name: str) -> None:
        self._domains.remove(name)
        self.virsh("destroy", name)

    def close(self) -> None:
        for name in list(self._domains):
            self.virsh("destroy", name, check=False)
        self._process.terminate()
        self._process.communicate(timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

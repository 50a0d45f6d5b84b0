"""Where a QEMU process listens for QMP, from its command line and its descriptors."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from typing import Final

from kvmwhy.live.errors import CaptureError
from kvmwhy.live.process import Vmm, descriptors

_MAX_TABLE: Final = 16 << 20
_LISTENING: Final = "00010000"  # __SO_ACCEPTCON in the flags of /proc/net/unix


def qmp_paths(vmm: Vmm) -> tuple[str, ...]:
    """UNIX sockets that may be this QEMU's monitor in control mode, the surest first.

    A relative path is one of the process' own working directory, and any path one of its own file systems: it may live
    in a container. What they really are shows when they greet.
    """
    named = from_command(vmm.command)
    root = _root(vmm.pid)
    if named:
        return tuple(root + path if path.startswith("/") else f"/proc/{vmm.pid}/cwd/{path}" for path in named)
    return tuple(root + path for path in listening(vmm.pid))


def _root(pid: int) -> str:
    """What to put before a path of that process; nothing if it sees the file systems that we see."""
    try:
        if os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
            ours, theirs = os.stat("/"), os.stat(f"/proc/{pid}/root/.")
            if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino):
                return ""
    except OSError:
        return ""
    return f"/proc/{pid}/root"


def from_command(command: tuple[str, ...]) -> tuple[str, ...]:
    """-qmp unix:PATH, and -chardev socket,path=PATH with -mon chardev=ID,mode=control. Pure."""
    paths: list[str] = []
    sockets: dict[str, str] = {}
    control: list[str] = []
    for option, value in pairwise(command):
        name = option.lstrip("-") if option.startswith("-") else ""
        parts = split(value)
        if name in {"qmp", "qmp-pretty"} and parts and parts[0].startswith("unix:"):
            paths.append(parts[0].removeprefix("unix:"))
        keys = dict(part.split("=", 1) for part in parts if "=" in part)
        if name == "chardev" and parts and parts[0] == "socket" and "id" in keys and "path" in keys:
            sockets[keys["id"]] = keys["path"]
        if name == "mon" and keys.get("mode") == "control":
            control.append(keys.get("chardev", parts[0] if parts and "=" not in parts[0] else ""))
    paths += [sockets[chardev] for chardev in control if chardev in sockets]
    return tuple(dict.fromkeys(path for path in paths if path))


def split(value: str) -> list[str]:
    """QEMU's option syntax: commas divide, a doubled one is a comma."""
    return [part.replace("\0", ",") for part in value.replace(",,", "\0").split(",")]


def listening(pid: int) -> tuple[str, ...]:
    """Named sockets that the process listens on: libvirt hands QEMU a descriptor instead of a path."""
    try:
        held = {m[1] for _, link in descriptors(pid) if (m := re.fullmatch(r"socket:\[(\d{1,20})\]", link))}
        with open(f"/proc/{pid}/net/unix", "rb") as stream:
            table = stream.read(_MAX_TABLE).decode("utf-8", "replace")
    except (CaptureError, OSError):
        return ()
    paths = []
    for line in table.splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[6] in held and fields[3] == _LISTENING and fields[7].startswith("/"):
            paths.append(fields[7])
    return tuple(sorted(paths, key=lambda path: "mon" not in os.path.basename(path)))

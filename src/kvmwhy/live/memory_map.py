"""QEMU's own map of guest memory: what lives at a GPA, down to the BAR of a device."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

_SPACE: Final = re.compile(r'^ AS "([^"\n]{1,100})"', re.MULTILINE)
_RANGE: Final = re.compile(
    r"^  ([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d{1,10}, ([a-z/-]{1,12})\): ([^\n]{0,300})$", re.MULTILINE
)
_DEVICE: Final = re.compile(r'^ {0,80}dev: ([A-Za-z0-9_.,+-]{1,60}), id "([^"\n]{0,120})"$')
_ADDRESS: Final = re.compile(r"^ {0,80}addr = ([0-9a-f]{2})\.([0-7])$")
_MAX_RANGES: Final = 100_000
_RAM: Final = {"ram", "rom", "romd", "ramd", "nv-ram"}  # what xp reads without any device noticing
_MAX_DEPTH: Final = 64


class Range(NamedTuple):
    """``start`` to ``end`` (inclusive). ``kind`` is QEMU's: ram, rom, i/o …"""

    start: int
    end: int
    kind: str
    name: str

    @property
    def memory(self) -> bool:
        return self.kind in _RAM


class Bar(NamedTuple):
    """A memory BAR as it is mapped: ``device`` is its type, else its PCI ids."""

    start: int
    size: int
    number: int
    device: str
    where: str  # bus:slot.function


class MemoryMap(NamedTuple):
    """Sorted by address, nothing overlaps: QEMU has flattened it."""

    ranges: tuple[Range, ...] = ()
    bars: tuple[Bar, ...] = ()

    def at(self, gpa: int) -> Range | None:
        i = bisect_right(self.ranges, gpa, key=lambda r: r.start) - 1
        return self.ranges[i] if i >= 0 and gpa <= self.ranges[i].end else None

    def bar_at(self, gpa: int) -> Bar | None:
        fitting = [bar for bar in self.bars if bar.start <= gpa < bar.start + bar.size]
        return min(fitting, key=lambda bar: bar.size, default=None)

    def describe(self, gpa: int) -> str:
        """``BAR 0 of virtio-vga (00:02.0), offset 0x10``; every address has an answer."""
        region_at, bar = self.at(gpa), self.bar_at(gpa)
        region = f"{region_at.name} ({region_at.kind})" if region_at else None
        if bar:
            text = f"BAR {bar.number} of {bar.device} ({bar.where}), offset {gpa - bar.start:#x}"
            return f"{text}: {region}" if region else f"{text}: nothing answers at this offset"
        if region_at and region:
            return f"{region}, offset {gpa - region_at.start:#x} in {region_at.start:#x}–{region_at.end:#x}"
        return "nothing: no RAM and no device is mapped there"


def read_map(mtree: str, pci: Any, qtree: str) -> MemoryMap:
    """From ``info mtree -f``, ``query-pci`` and ``info qtree``. What cannot be read is left out; never raises."""
    return MemoryMap(_ranges(mtree), tuple(_bars(pci, _names(qtree))))


def _ranges(mtree: str) -> tuple[Range, ...]:
    """The view that vCPUs see."""
    best: tuple[Range, ...] = ()
    for block in re.split(r"^FlatView #\d{1,6}$", mtree, flags=re.MULTILINE)[1:]:
        spaces = set(_SPACE.findall(block[:20_000]))
        if not spaces & {"memory", "cpu-memory-0"}:
            continue
        ranges = [
            Range(int(m[1], 16), int(m[2], 16), m[3], m[4].split(" @")[0].removesuffix(" KVM").strip())
            for m, _ in zip(_RANGE.finditer(block), range(_MAX_RANGES), strict=False)
        ]
        best = tuple(sorted(ranges))
        if "cpu-memory-0" in spaces:
            break
    return best


def _names(qtree: str) -> dict[tuple[int, int], str]:
    """(slot, function) → type of device. Behind a bridge the same slot may come again: then none is named."""
    names: dict[tuple[int, int], str] = {}
    device, twice = None, set()
    for line in qtree.splitlines():
        if match := _DEVICE.match(line):
            device = f"{match[1]}" + (f" “{match[2]}”" if match[2] else "")
        elif device and (place := _ADDRESS.match(line)):
            key = (int(place[1], 16), int(place[2]))
            if key in names:
                twice.add(key)
            names[key] = device
            device = None
    return {key: name for key, name in names.items() if key not in twice}


def _bars(pci: Any, names: dict[tuple[int, int], str], depth: int = 0) -> Iterator[Bar]:
    for bus in pci if isinstance(pci, list) and depth < _MAX_DEPTH else ():
        for device in _list(bus, "devices"):
            place = _ints(device, "bus", "slot", "function")
            if place is None:
                continue
            name = names.get((place[1], place[2])) or _pci_ids(device)
            where = f"{place[0]:02x}:{place[1]:02x}.{place[2]}"
            for region in _list(device, "regions"):
                values = _ints(region, "bar", "address", "size")
                if values and region.get("type") == "memory" and 0 < values[1] < 1 << 64 and values[2] > 0:
                    yield Bar(values[1], values[2], values[0], name, where)
            yield from _bars([device.get("pci_bridge")], {}, depth + 1)


def _pci_ids(device: dict[str, Any]) -> str:
    ids = _ints(device.get("id"), "vendor", "device", "device")
    return f"PCI device {ids[0]:04x}:{ids[1]:04x}" if ids else "a PCI device"


def _ints(holder: Any, *names: str) -> tuple[int, int, int] | None:
    """Three members that are all whole numbers, or nothing."""
    values = [holder.get(name) for name in names] if isinstance(holder, dict) else []
    integers = [v for v in values if isinstance(v, int)]
    return (integers[0], integers[1], integers[2]) if len(integers) == 3 else None


def _list(holder: Any, name: str) -> list[dict[str, Any]]:
    value = holder.get(name) if isinstance(holder, dict) else None
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

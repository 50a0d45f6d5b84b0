"""``kvmwhy atlas --html``: the map of an atlas as a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from kvmwhy.abi.uname import Series
from kvmwhy.cli.html_page import write_page
from kvmwhy.cli.output import complain
from kvmwhy.cli.status import BAD_INPUT, DONE
from kvmwhy.emulator.atlas import Atlas
from kvmwhy.emulator.trap_atlas import TrapAtlas
from kvmwhy.render.html import heat_map, trap_map
from kvmwhy.render.html.map_page import Column
from kvmwhy.render.opcode_map import columns_of, panels
from kvmwhy.render.trap_map import families, setups_of


class Here(NamedTuple):
    """The kernel to show first: the one that was asked for, or this host's; None: the newest."""

    series: Series | None
    is_asked_for: bool


def write(known: Atlas, path: str, here: Here) -> int:
    """Write it; return the exit status."""
    from kvmwhy.probe.encodings import text_of

    columns = columns_of(known.kernels)
    series = [known.kernels[column].series for column in columns]
    chosen = _chosen(series, here)
    rows = ((row, text_of(row.code.ljust(15, b"\xf4"), row.mode)) for row in known if row.defined)
    content = heat_map.Content(
        title="What KVM's emulator carries out, by opcode",
        about=(
            f"{len(known):,} encodings were asked of each kernel; those that a CPU defines are here. An instruction has"
            " to be carried out by KVM where its operand is no memory: a device, or nothing."
        ),
        columns=[
            Column(f"{major}.{minor}", _note(here, (major, minor), is_chosen=n == chosen))
            for n, (major, minor) in enumerate(series)
        ],
        chosen=chosen,
        panels=panels(rows, columns),
    )
    return _write(path, heat_map.page(content, made=datetime.now(UTC)))


def write_traps(known: TrapAtlas, path: str, here: Here) -> int:
    """The same of arm64 and riscv64."""
    columns = known.head.columns
    chosen = _chosen([column.series for column in columns], here)
    what = "ARM64" if known.head.arch == "arm64" else "RISC-V"
    content = trap_map.Content(
        known.head.arch,
        title=f"What becomes of {what} accesses where there is no memory",
        about=(
            f"{len(known):,} forms of loads, stores and maintenance operations were asked of each kernel, under QEMU's"
            " TCG; those that an emulated CPU has are here. A form that the chosen CPU lacks is not counted."
        ),
        columns=[
            Column(column.name, _note(here, column.series, is_chosen=n == chosen)) for n, column in enumerate(columns)
        ],
        chosen=chosen,
        setups=setups_of(known),
        families=families(known),
    )
    return _write(path, trap_map.page(content, made=datetime.now(UTC)))


def _chosen(series: Sequence[Series], here: Here) -> int:
    """The newest of those that are no newer; else the oldest."""
    return max((n for n, version in enumerate(series) if here.series is None or version <= here.series), default=0)


def _write(path: str, text: str) -> int:
    try:
        write_page(path, text)
    except OSError as error:
        complain(f"{path}: {(error.strerror or os.strerror(error.errno or 0)).lower()}")
        return BAD_INPUT
    return DONE


def _note(here: Here, version: Series, *, is_chosen: bool) -> str:
    if here.series is None or not is_chosen:
        return ""
    if here.series == version:
        return "" if here.is_asked_for else "this host"
    whose = "" if here.is_asked_for else "this host's "
    return f"the nearest to {whose}{here.series[0]}.{here.series[1]}"

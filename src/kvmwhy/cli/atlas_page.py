"""``kvmwhy atlas --html``: the heat map as a file."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from kvmwhy.cli.html_page import write_page
from kvmwhy.cli.output import complain
from kvmwhy.cli.status import BAD_INPUT, DONE
from kvmwhy.emulator.atlas import Atlas, Version
from kvmwhy.render.html.heat_map import Column, Content, page
from kvmwhy.render.opcode_map import columns_of, panels


def write(known: Atlas, path: str, here: Version | None) -> int:
    """Write it; return the exit status."""
    from kvmwhy.probe.encodings import text_of

    columns = columns_of(known.kernels)
    series = [known.kernels[column].series for column in columns]
    chosen = max((n for n, version in enumerate(series) if here is None or version <= here), default=0)
    rows = ((row, text_of(row.code.ljust(15, b"\xf4"), row.mode)) for row in known if row.defined)
    content = Content(
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
    try:
        write_page(path, page(content, made=datetime.now(UTC)))
    except OSError as error:
        complain(f"{path}: {(error.strerror or os.strerror(error.errno or 0)).lower()}")
        return BAD_INPUT
    return DONE


def _note(here: Version | None, version: Version, *, is_chosen: bool) -> str:
    if here is None or not is_chosen:
        return ""
    return "this host" if here == version else f"the nearest below this host's {here[0]}.{here[1]}"

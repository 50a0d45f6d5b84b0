"""Rows on disk: Parquet, or JSON lines.

Parquet is written in row groups as rows come, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from io import BytesIO
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgspec

from kvmwhy.fleet.row import COLUMNS, SCHEMA, WIDE, Row, from_json, to_json, told_by_2

if TYPE_CHECKING:
    import pyarrow as pa

_TIMES: Final = ("time", "last_time")
_NUMBERS: Final = {"offset": "uint64", "count": "uint64", "suberror": "uint32", "cpl": "uint8", "share": "float64"}
_GROUP: Final = 64 << 10  # rows
_FEW: Final = 1000  # rows
_PARQUET: Final = b"PAR1"

FORMATS: Final = (".parquet", ".jsonl")


class StoreError(ValueError):
    """The output cannot be written, or is no table of rows."""


def arrow_schema() -> pa.Schema:
    """The columns of a table, for Parquet, DuckDB and a cluster's batches."""
    pa = _arrow()

    def kind(name: str) -> Any:
        if name in _TIMES:
            return pa.timestamp("us", tz="UTC")
        if name in WIDE:
            return pa.uint64()
        if name in _NUMBERS:
            return getattr(pa, _NUMBERS[name])()
        return pa.bool_() if name == "damaged" else pa.string()

    return pa.schema([(name, kind(name)) for name in COLUMNS], metadata={"kvmwhy.row": str(SCHEMA)})


def _arrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError:
        raise StoreError("Parquet needs pyarrow: install kvmwhy[fleet], or write .jsonl") from None
    return pa


def to_table(rows: Sequence[Row]) -> pa.Table:
    """Rows as an Arrow table."""
    pa = _arrow()
    schema = arrow_schema()
    columns = [pa.array([getattr(row, name) for row in rows], type=schema.field(name).type) for name in COLUMNS]
    return pa.Table.from_arrays(columns, schema=schema)


def write_rows(sink: BinaryIO, rows: Iterable[Row], suffix: str) -> int:
    """All of ``rows`` in the format of ``suffix``; their number."""
    written = 0
    if suffix == ".jsonl":
        for row in rows:
            sink.write(to_json(row) + b"\n")
            written += 1
        return written
    import pyarrow.parquet as pq

    stream = iter(rows)
    with pq.ParquetWriter(sink, arrow_schema(), compression="zstd") as writer:
        while group := list(islice(stream, _GROUP)):
            writer.write_table(to_table(group))
            written += len(group)
    return written


def pack(rows: Iterator[Row], suffix: str) -> tuple[bytes, int]:
    """The rows of one batch as ``join`` takes them, and their number. Few are JSON lines: pyarrow stays unloaded."""
    sink = BytesIO()
    head = list(islice(rows, _FEW))
    few = len(head) < _FEW
    written = write_rows(sink, chain(head, rows), ".jsonl" if few else suffix)
    return sink.getvalue(), written


def suffix_of(path: str) -> str:
    """``.parquet`` or ``.jsonl``. Raises StoreError for another name, or if pyarrow is missing."""
    suffix = next((suffix for suffix in FORMATS if path.endswith(suffix)), None)
    if suffix is None:
        raise StoreError(f"{path}: its name must end in .parquet or .jsonl")
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        _arrow()
    return suffix


def join(names: Iterable[str], out: BinaryIO, suffix: str) -> int:
    """Put parts together, in order; the number of rows."""
    if suffix == ".parquet":
        return _join_parquet(names, out)
    rows = 0
    for name in names:
        with open(name, "rb") as part:
            while data := part.read(1 << 20):
                rows += data.count(b"\n")
                out.write(data)
    return rows


def _join_parquet(names: Iterable[str], out: BinaryIO) -> int:
    """Row groups of the usual size, however small the parts are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = held = 0
    batches: list[pa.RecordBatch] = []
    with pq.ParquetWriter(out, arrow_schema(), compression="zstd") as writer:
        for name in names:
            for batch in _batches(name):
                batches.append(batch)
                held += batch.num_rows
                if held >= _GROUP:
                    writer.write_table(pa.Table.from_batches(batches), row_group_size=2 * _GROUP)
                    rows, held = rows + held, 0
                    batches.clear()
        if batches:
            writer.write_table(pa.Table.from_batches(batches))
    return rows + held


def _batches(name: str) -> Iterator[pa.RecordBatch]:
    """The rows of a part, which is Parquet or, if they are few, JSON lines."""
    import pyarrow.parquet as pq

    with open(name, "rb") as part:
        if part.read(4) == _PARQUET:
            part.seek(0)
            yield from pq.ParquetFile(part).iter_batches(_GROUP)
            return
        part.seek(0)
        if few := [from_json(line) for line in part]:
            yield from to_table(few).to_batches()


def read_rows(path: str) -> Iterator[Row]:
    """The rows of a .parquet or .jsonl file. Raises StoreError if it is none."""
    if suffix_of(path) == ".jsonl":
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield from_json(line)
                except (ValueError, msgspec.DecodeError) as error:
                    raise StoreError(f"{path}, line {number}: {error}") from None
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            missing = "signature_v2" not in table.schema_arrow.names
            for batch in table.iter_batches():
                for fields in batch.to_pylist():
                    known = told_by_2(fields) if missing else fields
                    yield msgspec.convert({name: value for name, value in known.items() if value is not None}, Row)
    except (pa.ArrowException, msgspec.ValidationError) as error:
        raise StoreError(f"{path}: {error}") from None

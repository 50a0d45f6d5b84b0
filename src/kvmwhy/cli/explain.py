"""``kvmwhy explain``: open, read, group, diagnose, print."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, NamedTuple

from kvmwhy.arch.x86.instruction import Syntax
from kvmwhy.cli.damage import Complaints, lost_what_matters
from kvmwhy.cli.output import complain, counted, show
from kvmwhy.cli.status import BAD_INPUT, DAMAGED, DONE, NOT_PERMITTED, NOTHING
from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.pipeline import inputs
from kvmwhy.record import Failure
from kvmwhy.render.page import Line
from kvmwhy.report import Distinct, stories_of

if TYPE_CHECKING:
    from kvmwhy.cli.symbolise import Symbols


_CHUNK: Final = 1 << 20
_WORTH_A_BAR: Final = 256 << 20
_MOST_SCREENS: Final = 3  # of more failures, the table and the first


class Wish(NamedTuple):
    """What the user wants to see. ``number`` is that of one failure, as the table counts them."""

    as_json: bool = False
    syntax: Syntax = "intel"
    limit: int = 1000
    depth: Literal["screen", "full", "brief", "markdown", "github"] = "screen"
    role: Literal["guest", "vmm", "host"] | None = None
    number: int | None = None
    symbols: Symbols | None = None
    html: str | None = None  # where the page goes


def run(files: tuple[str, ...], wish: Wish) -> int:
    """Explain every failure in ``files``; return the exit status."""
    gathered, complaints = Distinct(wish.limit, excerpts=wish.html is not None), Complaints()
    status, count = DONE, 0
    for path, is_named in _inputs(files, complaints):
        count += 1
        status = max(status, _read_file(path, gathered, complaints, is_named=is_named))
    failures = gathered.failures(several=count > 1)
    damaged = any(lost_what_matters(failure) for failure in failures)
    stories = stories_of(failures)
    if wish.number is not None and stories and wish.number > len(stories):
        complain(f"there is no failure {wish.number}: {len(stories)} are told apart")
        return BAD_INPUT
    if wish.html is not None and stories:
        status = max(status, _write_page(wish.html, stories, wish, gathered))
    else:
        _print(stories, wish)
    sys.stdout.flush()
    complaints.close()
    if gathered.left_out:
        complain(f"not shown: {counted(gathered.left_out, 'more failure')} unlike these; see --limit")
    if status:
        return status
    if not failures:
        if not complaints.made:
            complain(_nothing(files, gathered.bytes_seen))
        return NOTHING
    return DAMAGED if damaged or complaints.made else DONE


def _print(stories: list[tuple[Failure, ...]], wish: Wish) -> None:
    numbered = [(n, story) for n, story in enumerate(stories, 1) if wish.number in {None, n}]
    if wish.as_json:
        _print_json([failure for _, story in numbered for failure in story], wish)
        return
    diagnoses = [(n, diagnose(first, syntax=wish.syntax), others) for n, (first, *others) in numbered]
    if wish.depth in {"markdown", "github"}:
        from kvmwhy.render.markdown import annotation, markdown

        for n, (_, diagnosis, others) in enumerate(diagnoses):
            text = annotation(diagnosis) + "\n" if wish.depth == "github" else markdown(diagnosis, others)
            sys.stdout.write("\n" + text if n and wish.depth == "markdown" else text)
    elif wish.depth == "full":
        from kvmwhy.render.text import explanation

        pages = [explanation(diagnosis, others) + names_of(diagnosis, wish) for _, diagnosis, others in diagnoses]
        show(_one_by_one(pages), paged=True)
    elif diagnoses:
        show(_screens(diagnoses, wish), paged=True)


def _write_page(
    path: str,
    stories: list[tuple[Failure, ...]],
    wish: Wish,
    distinct: Distinct,
) -> int:
    """One page of all failures, or of the one that was asked for."""
    from kvmwhy.cli.html_page import write

    diagnoses = [
        (diagnose(first, syntax=wish.syntax), others, distinct.excerpt(first))
        for n, (first, *others) in enumerate(stories, 1)
        if wish.number in {None, n}
    ]
    try:
        left_out = write(path, diagnoses)
    except OSError as error:
        complain(f"{path}: {(error.strerror or str(error)).lower()}")
        return BAD_INPUT
    if left_out:
        complain(f"not on the page: {counted(left_out, 'more failure')}; see --number")
    return DONE


def _print_json(failures: list[Failure], wish: Wish) -> None:
    from kvmwhy.render.json import to_json

    encode = wish.symbols.json if wish.symbols else to_json
    for failure in failures:
        sys.stdout.buffer.write(encode(diagnose(failure, syntax=wish.syntax)) + b"\n")


def _screens(stories: list[tuple[int, Diagnosis, list[Failure]]], wish: Wish) -> list[Line]:
    """Of a few failures each; of many a table, and the first."""
    from kvmwhy.render.screen import brief, screen, table

    if wish.depth == "brief":
        return [line for _, diagnosis, _ in stories for line in brief(diagnosis)]
    shown = stories if len(stories) <= _MOST_SCREENS else stories[:1]
    several = len(stories) > 1
    pages = [
        screen(diagnosis, others, syntax=wish.syntax, role=wish.role, number=n if several else None)
        + names_of(diagnosis, wish)
        for n, diagnosis, others in shown
    ]
    if several:
        pages.insert(0, table([(diagnosis, others) for _, diagnosis, others in stories]))
    return _one_by_one(pages)


def names_of(diagnosis: Diagnosis, wish: Wish) -> list[Line]:
    """RIP by name, where --symbols was given."""
    return list(wish.symbols.name(diagnosis.facts).lines) if wish.symbols else []


def _one_by_one(pages: list[list[Line]]) -> list[Line]:
    between = [Line(), Line("─" * 60, "dim"), Line()]
    return [line for n, page in enumerate(pages) for line in ([*between, *page] if n else page)]


def _is_table(path: str) -> bool:
    """Whether a file that was read without a failure begins like a scan's rows."""
    from kvmwhy.fleet.extract import OURS

    try:
        if not os.path.isfile(path):  # a pipe is read already
            return False
        with open(path, "rb") as file:
            return file.read(8).startswith(OURS)
    except OSError:
        return False


def _nothing(files: tuple[str, ...], seen: int) -> str:
    where = "the input" if files == ("-",) else files[0] if len(files) == 1 else "any of these files"
    if not seen:
        return f"{where} is empty"
    if len(files) == 1 and _is_table(files[0]):
        return f"{where} is a table that `kvmwhy scan` wrote: give it to `kvmwhy triage`"
    return f"no KVM failure found in {where}; `kvmwhy explain --help` names what is read"


# -- opening --------------------------------------------------------------------------------------


def _inputs(files: tuple[str, ...], complaints: Complaints) -> Iterator[tuple[str, bool]]:
    """Every file, and whether it was named; directories by what is in them, each file once."""
    seen: set[tuple[int, int]] = set()
    for path in files:
        if path == "-" or not os.path.isdir(path):
            yield path, True
        else:
            for inside in _walk(path, complaints, seen):
                yield inside, False


def _walk(top: str, complaints: Complaints, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Regular files below ``top``. Links to directories are not followed, so that there are no circles."""
    waiting = [top]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                names = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            complaints(f"{here}: {(error.strerror or str(error)).lower()}")
            continue
        below = []
        for entry in names:
            try:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                    continue
                info = entry.stat()
            except OSError:
                continue  # a link to nothing, or to itself
            if stat.S_ISREG(info.st_mode) and (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                yield entry.path
        waiting += reversed(below)


def _read_file(path: str, distinct: Distinct, complaints: Complaints, *, is_named: bool) -> int:
    """Read one input; complain in one sentence if it cannot be read. What was read before stays."""
    try:
        if path == "-":
            _read_stream(sys.stdin.buffer, None, 0, distinct, complaints, is_named=True)
            return DONE
        info = os.stat(path)
        if stat.S_ISBLK(info.st_mode) or (
            stat.S_ISCHR(info.st_mode) and not path.startswith(("/dev/stdin", "/dev/fd/"))
        ):
            complain(f"{path} is a device, not a file; nothing of it is read")
            return BAD_INPUT
        with open(path, "rb") as stream:
            _read_stream(stream, path, info.st_size, distinct, complaints, is_named=is_named)
    except PermissionError:
        complaints(f"{path}: not permitted to read it")
        return NOT_PERMITTED if is_named else DONE
    except OSError as error:
        complaints(f"{path}: {(error.strerror or str(error)).lower()}")
        return BAD_INPUT if is_named else DONE
    return DONE


def _read_stream(
    stream: BinaryIO,
    path: str | None,
    size: int,
    distinct: Distinct,
    complaints: Complaints,
    *,
    is_named: bool = False,
) -> None:
    for member in inputs(_counted(_chunks(stream, size), distinct), path, complaints):
        distinct.read(member, complaints, is_given=is_named and member.path == path)


def _counted(chunks: Iterator[bytes], distinct: Distinct) -> Iterator[bytes]:
    for chunk in chunks:
        distinct.bytes_seen += len(chunk)
        yield chunk


def _chunks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    if size < _WORTH_A_BAR or not sys.stderr.isatty():
        while chunk := stream.read(_CHUNK):
            yield chunk
        return
    from rich.console import Console
    from rich.progress import wrap_file

    with wrap_file(stream, size, description="reading", console=Console(stderr=True), transient=True) as wrapped:
        while chunk := wrapped.read(_CHUNK):
            yield chunk

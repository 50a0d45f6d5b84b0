"""One message of a refused set-up: the call it is about, and what of it the text shows."""

from __future__ import annotations

import re
from functools import cache
from typing import Final, NamedTuple

from kvmwhy.record import Arch

NUMBER: Final = r"(?:0x[0-9a-fA-F]{1,16}|[0-9]{1,20})(?![0-9a-zA-Z])"


class Form(NamedTuple):
    """A message of one program, after its format string.

    A form that *follows* is printed because of another refusal (``failed to initialize kvm: …``): beside that one it
    adds at most the errno. Named groups of the pattern are fields of the record: ``msr``, ``value``, ``register``,
    ``fw`` (decimal), ``fwx`` (hexadecimal), ``status``, ``ret`` (a negative errno), ``slot``, ``start``, ``size``,
    ``call``, ``vcpu``.
    """

    call: str
    detail: str
    text: str  # the pattern's source: a hundred patterns are compiled only where their anchors are
    anchors: tuple[str, ...]
    vmm: str | None
    source: str
    follows: bool
    errno: str | None
    arch: Arch | None

    @property
    def pattern(self) -> re.Pattern[str]:
        return _compiled(self.text)


_compiled = cache(re.compile)


def form(
    call: str,
    detail: str,
    pattern: str,
    *anchors: str,
    vmm: str | None = None,
    source: str,
    follows: bool = False,
    errno: str | None = None,
    arch: Arch | None = None,
) -> Form:
    """A space in ``pattern`` stands for any run of spaces and one line's end: mail folds lines.

    ``errno`` is what the message means where it prints none; ``arch`` the one whose kernel prints it.
    """
    spaced = pattern.replace(" ", r"[ \t]{0,8}(?:\n[ \t]{0,8})?")
    return Form(call, detail, spaced, anchors, vmm, source, follows, errno, arch)


def forms(
    call: str,
    detail: str,
    *rows: tuple[str, str],
    vmm: str | None = None,
    source: str,
    follows: bool = False,
    arch: Arch | None = None,
) -> tuple[Form, ...]:
    """Several messages of one kind: each row has a pattern and its anchor."""
    return tuple(
        form(call, detail, pattern, anchor, vmm=vmm, source=source, follows=follows, arch=arch)
        for pattern, anchor in rows
    )

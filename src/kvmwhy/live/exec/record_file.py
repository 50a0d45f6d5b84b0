"""All that was captured of one run, as one file: a tar with a place for each thing, readable by its owner alone."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping

from kvmwhy.ingest.exec_record import FAILURES, MANIFEST, ROOT
from kvmwhy.live.errors import CaptureError
from kvmwhy.whole_file import is_replaceable, replacing


def path_for(given: str, pid: int) -> str:
    """An absolute path; in a directory, a file of its own for each run. Raises CaptureError."""
    path = os.path.abspath(given)
    if os.path.isdir(path):
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        path = os.path.join(path, f"kvmwhy-exec-{stamp}-{pid}.tar")
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise CaptureError(f"{directory} is no directory: the record cannot be kept there")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise CaptureError(f"not permitted to make a file in {directory}")
    if not is_replaceable(path):
        raise CaptureError(f"{path} is no file: the record cannot be kept there")
    return path


def write(path: str, manifest: bytes, failures: bytes, members: Mapping[str, bytes]) -> None:
    """Replace the file at once. Raises OSError."""
    import tarfile

    with replacing(path, private=True) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in {MANIFEST: manifest, FAILURES: failures, **members}.items():
            info = tarfile.TarInfo(f"{ROOT}/{name}")
            info.size, info.mode, info.mtime = len(data), 0o600, int(time.time())
            tar.addfile(info, io.BytesIO(data))

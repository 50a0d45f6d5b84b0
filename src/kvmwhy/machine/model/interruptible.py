"""Ctrl-C while Unicorn runs a guest.

Python raises KeyboardInterrupt in its main thread, when that next executes bytecode. A guest that loops never comes to
that; and what is raised within one of Unicorn's hooks is printed by ctypes, and forgotten. So the main thread waits
here, where it can be interrupted, and another one runs the guest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


def interruptible(work: Callable[[], _Result], stop: Callable[[], None]) -> _Result:
    """What ``work`` returns or raises. If a signal's handler raises meanwhile, ``stop`` has to make ``work`` end.

    Signals have their handlers run in the main thread only: in any other, ``work`` is called as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    results: list[_Result] = []
    errors: list[BaseException] = []
    done = threading.Event()  # Thread.join() of Python 3.11 returns at once after it was interrupted

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 -- it is raised again below
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="kvmwhy-guest", daemon=True).start()
    try:
        done.wait()
    except BaseException:
        stop()
        done.wait()
        raise
    if errors:
        raise errors[0]
    return results[0]

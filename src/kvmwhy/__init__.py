"""kvmwhy tells you why KVM gave up on a guest, whose doing it was, and what to do about it.

    >>> import kvmwhy
    >>> for diagnosis in kvmwhy.explain("guest.log"):  # doctest: +SKIP
    ...     print(diagnosis.answer)

What stands in ``__all__`` is loaded when it is first used: ``import kvmwhy`` itself costs nothing.
"""

TYPE_CHECKING = False  # typing itself is a third of what this import would cost
if TYPE_CHECKING:
    from kvmwhy.api import (
        Diagnosis,
        Failure,
        decode_page,
        diagnose,
        explain,
        to_json,
        to_text,
    )

__version__ = "0.1.0"
__all__ = [
    "Diagnosis",
    "Failure",
    "__version__",
    "decode_page",
    "diagnose",
    "explain",
    "to_json",
    "to_text",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kvmwhy import api

    value = globals()[name] = getattr(api, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

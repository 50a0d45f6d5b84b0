"""``kvmwhy serve``: the server for a team."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from typing import Final, NamedTuple

from kvmwhy.cli.output import complain
from kvmwhy.cli.status import BAD_INPUT, DONE
from kvmwhy.serve.limits import Limits

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_CONNECTIONS: Final = 4  # for each request that may wait; idle ones are among them


class ServeOptions(NamedTuple):
    """What the user asked for; sizes in MiB."""

    host: str = "127.0.0.1"
    port: int = 8080
    name: tuple[str, ...] = ()
    keep: str | None = None
    days: int = 30
    body: int = 32
    unpacked: int = 512
    memory: int = 1024
    seconds: int = 20
    workers: int | None = None


def run(options: ServeOptions) -> int:
    """Serve until a signal ends it; return the exit status."""
    try:
        import uvicorn

        from kvmwhy.serve.app import LOOPBACK, Settings, app
        from kvmwhy.serve.store import Store
    except ImportError as error:
        complain(f"{error.name} is not installed: install kvmwhy[web]")
        return BAD_INPUT
    limits = Limits(
        body=options.body << 20,
        unpacked=options.unpacked << 20,
        memory=options.memory << 20,
        seconds=options.seconds,
        workers=options.workers or os.cpu_count() or 1,
        days=options.days,
    )
    try:
        store = Store(options.keep, days=options.days, most=limits.kept) if options.keep else None
    except sqlite3.Error as error:
        complain(f"{options.keep}: {error}")
        return BAD_INPUT
    if options.host not in _LOOPBACK:
        complain(f"anybody who reaches {options.host} can send logs: put a server with TLS and log-in in front")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    settings = Settings(hosts=(*LOOPBACK, *_names(options)), store=store, limits=limits)
    config = uvicorn.Config(
        app(settings),
        host=options.host,
        port=options.port,
        http="h11",
        ws="none",
        lifespan="on",
        access_log=False,  # it would have the links of records in it
        server_header=False,
        proxy_headers=False,
        log_level="warning",
        limit_concurrency=limits.waiting * _CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=limits.seconds,
    )
    complain(f"serving on http://{_names(options)[0]}:{options.port}/")
    server = uvicorn.Server(config)
    server.run()
    return DONE if server.started else BAD_INPUT


def _names(options: ServeOptions) -> tuple[str, ...]:
    host = f"[{options.host}]" if ":" in options.host else options.host
    return (host.lower(), *(name.lower() for name in options.name))

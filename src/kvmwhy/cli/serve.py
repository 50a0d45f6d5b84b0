"""``kvmwhy serve``: the server for a team."""

from __future__ import annotations

import gc
import logging
import os
import sqlite3
import sys
from typing import Final, NamedTuple

from kvmwhy.cli.output import complain
from kvmwhy.cli.status import BAD_INPUT, DONE
from kvmwhy.serve.defaults import LOOPBACK
from kvmwhy.serve.limits import ServerLimits

_GARBAGE: Final = 700  # objects, as Python has it; a command's short life is let gather more (cli/__init__.py)
_CONNECTIONS: Final = 4  # for each request that may wait; idle ones are among them


class ServeOptions(NamedTuple):
    """What the user asked for; sizes in MiB. The command has the defaults."""

    host: str
    port: int
    name: tuple[str, ...]
    keep: str | None
    days: int
    body: int
    unpacked: int
    memory: int
    seconds: int
    workers: int | None


def run(options: ServeOptions) -> int:
    """Serve until a signal ends it; return the exit status."""
    try:
        import uvicorn

        from kvmwhy.serve.app import Settings, app
        from kvmwhy.serve.edge import in_request
        from kvmwhy.serve.store import Store
    except ImportError as error:
        complain(f"{error.name} is not installed: install kvmwhy[web]")
        return BAD_INPUT
    limits = ServerLimits(
        body=options.body << 20,
        unpacked=options.unpacked << 20,
        memory=options.memory << 20,
        seconds=options.seconds,
        workers=options.workers or os.cpu_count() or 1,
        days=options.days,
    )
    try:
        store = None
        if options.keep:
            store = Store(options.keep, days=limits.days, most=limits.kept, size=limits.kept_bytes)
    except sqlite3.Error as error:
        complain(f"{options.keep}: {error}")
        return BAD_INPUT
    if options.host not in LOOPBACK:
        complain(f"anybody who reaches {options.host} can send logs: put a server with TLS and log-in in front")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    names = (in_request(options.host), *map(str.lower, options.name))
    settings = Settings(hosts=(*map(in_request, LOOPBACK), *names), store=store, limits=limits)
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
    gc.collect()
    gc.freeze()  # modules stay
    gc.set_threshold(_GARBAGE)
    complain(f"serving on http://{names[0]}:{options.port}/")
    server = uvicorn.Server(config)
    server.run()
    return DONE if server.started else BAD_INPUT

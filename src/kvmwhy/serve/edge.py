"""What every request passes, and every answer: the host's name, headers, a count, and a line in the log.

It stands outside of the routes, so that it holds for what no route takes (404, 405) and for faults (500) as well.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kvmwhy.serve.metrics import Metrics

LOG: Final = logging.getLogger("kvmwhy.serve")
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # a link is a secret; without it a form would have no origin
    "X-Content-Type-Options": "nosniff",
}
_NOTHING: Final = "default-src 'none'; frame-ancestors 'none'"
_NO_ROUTE: Final = "other"

Refuse = Callable[[Request, HTTPException], Response]


def in_request(host: str) -> str:
    """A name or address of this server as the header Host has it."""
    return f"[{host}]".lower() if ":" in host else host.lower()


class Edge:
    """Around an application whose routes' handlers have the names that are counted."""

    def __init__(self, inner: ASGIApp, hosts: tuple[str, ...], metrics: Metrics, refuse: Refuse) -> None:
        self._inner, self._hosts, self._metrics, self._refuse = inner, hosts, metrics, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for header, value in _HEADERS.items():
                    headers[header] = value
                headers.setdefault("Content-Security-Policy", _NOTHING)
            await send(message)

        request = Request(scope)
        try:
            refusal = self._refusal(request)
            inner = self._refuse(request, refusal) if refusal else self._inner
            await inner(scope, receive, send_with_headers)
        finally:
            route = getattr(scope.get("endpoint"), "__name__", _NO_ROUTE)
            self._metrics.requests[route, status] += 1
            # Without address, query or body.
            LOG.info("%s %d %.0f ms", route, status, (time.perf_counter() - began) * 1000)

    def _refusal(self, request: Request) -> HTTPException | None:
        """For what another site's page sends here, and for names that another site gave this address."""
        host = request.headers.get("host", "")
        name, _, port = host.rpartition(":")
        if (name if port.isdigit() else host).lower() not in self._hosts:
            return HTTPException(421, "this server has another name: see --name")
        origin = request.headers.get("origin")
        crosses = request.headers.get("sec-fetch-site") in {"cross-site", "same-site"} and request.method != "GET"
        if crosses or (origin and origin.partition("://")[2] != host):
            return HTTPException(403, "another site's page may not send logs here")
        return None

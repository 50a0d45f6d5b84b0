"""The server's requests: a log in, its page or JSON out; a redacted record behind a link; health and counters."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import IO, Any, Final, NamedTuple

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from kvmwhy.serve import pages
from kvmwhy.serve.accept import prefers_page
from kvmwhy.serve.limits import Limits
from kvmwhy.serve.metrics import Metrics
from kvmwhy.serve.pool import GaveUpError, Pool
from kvmwhy.serve.store import Store
from kvmwhy.serve.worker import Answer, Task

LOG: Final = logging.getLogger("kvmwhy.serve")
LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_FIELD: Final = b"log="  # how a form of text/plain names its only field
_LONGEST_NAME: Final = 200
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # a link is a secret; without it a form would have no origin
    "X-Content-Type-Options": "nosniff",
}
_NOTHING: Final = "default-src 'none'; frame-ancestors 'none'"

Handler = Callable[[Request], Awaitable[Response]]


class Settings(NamedTuple):
    """``hosts`` are the names that the server answers to; ``store`` has the redacted records, if any are kept."""

    hosts: tuple[str, ...] = LOOPBACK
    store: Store | None = None
    limits: Limits = Limits()


def app(settings: Settings) -> Starlette:
    """The application. Its processes start and end with it."""
    server = Server(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(server.pool.start)
        try:
            yield
        finally:
            await asyncio.to_thread(server.pool.close)
            if server.store:
                server.store.close()

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", server.route("form", server.form), methods=["GET"]),
            Route("/", server.route("explain", server.explain), methods=["POST"]),
            Route("/r/{token:str}", server.route("record", server.record), methods=["GET"]),
            Route("/healthz", server.route("healthz", server.healthz), methods=["GET"]),
            Route("/metrics", server.route("metrics", server.show_metrics), methods=["GET"]),
        ],
    )


class Server:
    """What the requests share."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.limits = settings, settings.limits
        self.pool, self.metrics = Pool(self.limits), Metrics()
        self.store = settings.store

    def route(self, name: str, handler: Handler) -> Handler:
        """Held to the hosts' names, counted, and logged without address, query or body."""

        async def handle(request: Request) -> Response:
            began = time.perf_counter()
            try:
                self._same_site(request)
                response = await handler(request)
            except HTTPException as error:
                response = _refusal(request, error)
            except ClientDisconnect:
                response = PlainTextResponse("", status_code=400)
            for header, value in _HEADERS.items():
                response.headers[header] = value
            response.headers.setdefault("Content-Security-Policy", _NOTHING)
            self.metrics.requests[name, response.status_code] += 1
            LOG.info("%s %d %.0f ms", name, response.status_code, (time.perf_counter() - began) * 1000)
            return response

        return handle

    def _same_site(self, request: Request) -> None:
        """Refuse what another site's page sends here, and names that another site gave this address."""
        host = request.headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.lower() not in self.settings.hosts:
            raise HTTPException(421, "this server has another name: see --name")
        origin = request.headers.get("origin")
        if request.headers.get("sec-fetch-site") in {"cross-site", "same-site"} and request.method != "GET":
            raise HTTPException(403, "another site's page may not send logs here")
        if origin and origin.partition("://")[2] != host:
            raise HTTPException(403, "another site's page may not send logs here")

    async def form(self, _: Request) -> Response:
        text = pages.form(keeps=self.limits.days if self.store else None)
        return HTMLResponse(text, headers={"Content-Security-Policy": pages.FORM_POLICY})

    async def explain(self, request: Request) -> Response:
        """The body is the log, of whatever type it is said to be."""
        keep = request.query_params.get("keep") == "1"
        if keep and self.store is None:
            raise HTTPException(404, "this server keeps nothing")
        name = request.query_params.get("name", "")[:_LONGEST_NAME] or None
        if self.metrics.waiting >= self.limits.waiting:
            raise HTTPException(503, "too many requests wait", {"Retry-After": "2"})
        self.metrics.waiting += 1
        try:
            with tempfile.TemporaryFile() as log:
                await self._receive(request, log)
                answer = await self._answer(log, Task(name=name, keep=keep))
        finally:
            self.metrics.waiting -= 1
        token = self.store.keep(answer.record) if self.store and answer.record else None
        if token and _wants_page(request):
            return RedirectResponse(f"/r/{token}", status_code=303)
        return _response(request, answer, token)

    async def record(self, request: Request) -> Response:
        """The same page and JSON, made anew of the redacted record."""
        record = self.store.find(request.path_params["token"]) if self.store else None
        if record is None:
            raise HTTPException(404, "there is no such record, or not any more")
        with tempfile.TemporaryFile() as log:
            log.write(record)
            return _response(request, await self._answer(log, Task(is_record=True)), None)

    async def healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def show_metrics(self, _: Request) -> Response:
        return PlainTextResponse(self.metrics.text(self.store.count() if self.store else 0))

    async def _receive(self, request: Request, log: IO[bytes]) -> None:
        """The body into a file without a name, within its size and times."""
        stated = request.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > self.limits.body:
            raise self._too_large()
        size, is_form = 0, request.headers.get("content-type", "").startswith("text/plain")
        parts = request.stream().__aiter__()
        try:
            async with asyncio.timeout(self.limits.upload):
                while True:
                    async with asyncio.timeout(self.limits.silence):
                        part = await anext(parts, None)
                    if part is None:
                        break
                    size += len(part)
                    self.metrics.bytes += len(part)
                    if size > self.limits.body:
                        raise self._too_large()
                    log.write(part.removeprefix(_FIELD) if is_form and size == len(part) else part)
        except TimeoutError:
            raise HTTPException(408, "the log came too slowly") from None
        if not size:
            raise HTTPException(400, "the body is empty: it is to be the log")

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the log is larger than {self.limits.body >> 20} MiB")

    async def _answer(self, log: IO[bytes], task: Task) -> Answer:
        began = time.perf_counter()
        log.flush()
        try:
            answer = await self.pool.explain(log, task)
        except GaveUpError:
            self.metrics.gave_up += 1
            raise HTTPException(422, "it was too much: it could not be explained within this server's limits") from None
        self.metrics.explained(time.perf_counter() - began, len(answer.json))
        return answer


def _response(request: Request, answer: Answer, token: str | None) -> Response:
    if _wants_page(request):
        if answer.page is None:
            return _page(pages.message("No KVM failure was found in it", answer.remarks))
        return HTMLResponse(answer.page, headers={"Content-Security-Policy": pages.ANSWER_POLICY})
    content: dict[str, Any] = {
        "failures": [msgspec.Raw(line) for line in answer.json],
        "remarks": answer.remarks,
        "permalink": f"/r/{token}" if token else None,
    }
    headers = {"Location": f"/r/{token}"} if token else None
    return Response(msgspec.json.encode(content), 201 if token else 200, headers, "application/json")


def _refusal(request: Request, error: HTTPException) -> Response:
    if _wants_page(request):
        response = _page(pages.message(error.detail))
        response.status_code = error.status_code
        response.headers.update(error.headers or {})
        return response
    body = msgspec.json.encode({"error": error.detail})
    return Response(body, error.status_code, error.headers, "application/json")


def _page(text: str) -> Response:
    return HTMLResponse(text, headers={"Content-Security-Policy": pages.FORM_POLICY})


def _wants_page(request: Request) -> bool:
    return prefers_page(request.headers.get("accept", ""))

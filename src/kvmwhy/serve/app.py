"""The server's requests: a log in, its page or JSON out; a redacted record behind a link; health and counters."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import IO, Any, Final, NamedTuple

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from kvmwhy.serve import pages
from kvmwhy.serve.accept import prefers_page
from kvmwhy.serve.defaults import LOOPBACK
from kvmwhy.serve.edge import LOG, Edge, in_request
from kvmwhy.serve.limits import ServerLimits
from kvmwhy.serve.metrics import Metrics
from kvmwhy.serve.pool import GaveUpError, NoWorkerError, Pool
from kvmwhy.serve.store import Store
from kvmwhy.serve.worker import Answer, Task

_FIELD: Final = b"log="  # how a form of text/plain names its only field
_LONGEST_NAME: Final = 200
_AGAIN: Final = {"Retry-After": "2"}


class Settings(NamedTuple):
    """``hosts`` are the names that the server answers to; ``store`` has the redacted records, if any are kept."""

    hosts: tuple[str, ...] = tuple(map(in_request, LOOPBACK))
    store: Store | None = None
    limits: ServerLimits = ServerLimits()


def app(settings: Settings) -> ASGIApp:
    """The application. Its processes start and end with it."""
    server = Server(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(server.pool.start)
        try:
            yield
        finally:
            await server.pool.close()
            if server.store:
                server.store.close()

    routes = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", server.form, methods=["GET"]),
            Route("/", server.explain, methods=["POST"]),
            Route("/r/{token:str}", server.record, methods=["GET"]),
            Route("/healthz", server.healthz, methods=["GET"]),
            Route("/metrics", server.metrics, methods=["GET"]),
        ],
        exception_handlers={
            HTTPException: server.refused,
            ClientDisconnect: server.disconnected,
            OSError: server.unable,
            sqlite3.Error: server.unable,
            NoWorkerError: server.unable,
        },
    )
    return Edge(routes, settings.hosts, server.counts, _refusal)


class Server:
    """What the requests share. Its handlers' names are those that are counted and logged."""

    def __init__(self, settings: Settings) -> None:
        self.limits, self.store = settings.limits, settings.store
        self.pool, self.counts = Pool(self.limits), Metrics()

    async def refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 -- the type that it is registered for
        return _refusal(request, error)

    async def disconnected(self, _: Request, __: Exception) -> Response:
        return PlainTextResponse("", status_code=400)

    async def unable(self, request: Request, error: Exception) -> Response:
        """The disk is full, the store fails, or no process can be had: it is the server's fault, and may pass."""
        self.counts.unable += 1
        # Its text has nothing of a log or request: the server opens no file by a name that it was sent.
        LOG.error("%s: %s", type(error).__name__, error)
        return _refusal(request, HTTPException(503, "the server is unable to do it now", _AGAIN))

    async def form(self, _: Request) -> Response:
        text = pages.form(keeps=self.limits.days if self.store else None)
        return HTMLResponse(text, headers={"Content-Security-Policy": pages.FORM_POLICY})

    async def explain(self, request: Request) -> Response:
        """The body is the log, of whatever type it is said to be."""
        keep = request.query_params.get("keep") == "1"
        if keep and self.store is None:
            raise HTTPException(404, "this server keeps nothing")
        name = request.query_params.get("name", "")[:_LONGEST_NAME] or None
        with self._place(), tempfile.TemporaryFile() as log:
            await self._receive(request, log)
            skip = len(_FIELD) if request.query_params.get("form") == "1" and _begins(log, _FIELD) else 0
            answer = await self._answer(log, Task(name=name, keep=keep, skip=skip))
        token = self.store.keep(answer.record, len(answer.remarks)) if self.store and answer.record else None
        if token and _wants_page(request):
            return RedirectResponse(f"/r/{token}", status_code=303)
        return _response(request, answer, token)

    async def record(self, request: Request) -> Response:
        """The same page and JSON, made anew of the redacted record."""
        kept = self.store.find(request.path_params["token"]) if self.store else None
        if kept is None:
            raise HTTPException(404, "there is no such record, or not any more")
        with self._place(), tempfile.TemporaryFile() as log:
            log.write(kept.record)
            return _response(request, await self._answer(log, Task(is_record=True, remarks=kept.remarks)), None)

    async def healthz(self, _: Request) -> Response:
        if not self.pool.lives():
            raise HTTPException(503, "the processes are being started again", _AGAIN)
        return PlainTextResponse("ok\n")

    async def metrics(self, _: Request) -> Response:
        return PlainTextResponse(self.counts.text(self.store.count() if self.store else 0))

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of those that may send or wait."""
        if self.counts.waiting >= self.limits.waiting:
            raise HTTPException(503, "too many requests wait", _AGAIN)
        self.counts.waiting += 1
        try:
            yield
        finally:
            self.counts.waiting -= 1

    async def _receive(self, request: Request, log: IO[bytes]) -> None:
        """The body into a file without a name, within its size and times."""
        stated = request.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > self.limits.body:
            raise self._too_large()
        size = 0
        parts = request.stream().__aiter__()
        try:
            async with asyncio.timeout(self.limits.upload):
                while True:
                    async with asyncio.timeout(self.limits.silence):
                        part = await anext(parts, None)
                    if part is None:
                        break
                    size += len(part)
                    self.counts.bytes += len(part)
                    if size > self.limits.body:
                        raise self._too_large()
                    log.write(part)
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
            self.counts.gave_up += 1
            raise HTTPException(422, "it was too much: it could not be explained within this server's limits") from None
        self.counts.explained(time.perf_counter() - began, len(answer.json))
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


def _begins(log: IO[bytes], text: bytes) -> bool:
    log.seek(0)
    return log.read(len(text)) == text

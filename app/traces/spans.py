"""Spans, made by OpenTelemetry. They name routes, accounts, reservations and transactions; neither paths, in
which a callback's token may stand, nor bodies.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from app.ledger.errors import LedgerError
from app.ledger.ledger import Ledger
from app.ledger.operations import Configure, Write, verb_of
from app.ledger.receipts import Batched, Configured, Receipt

CLOSE_SECONDS = 0.7
FAILED = 500

Message = MutableMapping[str, Any]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Traces:
    """One for each process. What is made is sent by a thread, and what cannot be sent is lost."""

    def __init__(self) -> None:
        resource = Resource.create()
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "lastro"}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self.tracer = self._provider.get_tracer("lastro")

    def around(self, app: App) -> App:
        """The application, each of whose requests has a span."""
        return _Requests(app, self.tracer)

    def ledger(self, *arguments: Any, **named: Any) -> Ledger:
        """A ledger each of whose operations has a span."""
        ledger = _Traced(*arguments, **named)
        ledger.tracer = self.tracer
        return ledger

    async def close(self) -> None:
        """Send what waits, for at most `CLOSE_SECONDS`: whoever takes it may be away."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, CLOSE_SECONDS)


class _Requests:
    """ASGI: a request's span is a child of the caller's, where that names one (`traceparent`)."""

    def __init__(self, app: App, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer
        self._named = {name.encode(): name for name in propagate.get_global_textmap().fields}

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        named = self._named
        carrier = {named[name]: value.decode("latin-1") for name, value in scope["headers"] if name in named}
        status = 0

        async def heard(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._tracer.start_as_current_span(
            "request", propagate.extract(carrier), kind=SpanKind.SERVER
        ) as span:
            scope["trace"] = f"{span.get_span_context().trace_id:032x}"
            await self._app(scope, receive, heard)
            _describe(span, scope, status)


def _describe(span: Span, scope: Any, status: int) -> None:
    """By the conventions for HTTP. A method is any word of the caller's, unless there is a route for it."""
    route = scope.get("path_template")
    if route is not None:
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.request.method", scope["method"])
        span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    if "code" in scope:
        span.set_attribute("error.type", scope["code"])
    if status >= FAILED:
        span.set_status(StatusCode.ERROR)


class _Traced(Ledger):
    """From asking to the outcome: the queue, the script, and where PostgreSQL was asked, that too."""

    tracer: Tracer

    async def _carried_out(self, operation: Write) -> Receipt:
        with self._span(verb_of(type(operation))) as span:
            span.set_attribute("lastro.shard", operation.shard)
            receipt = await super()._carried_out(operation)
            span.set_attribute("lastro.account", receipt.entry.account)
            span.set_attribute("lastro.transaction", str(receipt.transaction))
            if receipt.entry.reservation is not None:
                span.set_attribute("lastro.reservation", receipt.entry.reservation)
            return receipt

    async def configure(self, operation: Configure) -> Configured:
        with self._span(verb_of(type(operation))) as span:
            span.set_attribute("lastro.account", operation.account)
            return await super().configure(operation)

    async def batch(self, operations: Sequence[Write], *, atomic: bool = False) -> Batched:
        with self._span("batch") as span:
            span.set_attribute("lastro.operations", len(operations))
            return await super().batch(operations, atomic=atomic)

    @contextmanager
    def _span(self, what: str) -> Iterator[Span]:
        """A refusal is an answer, and no error of the span."""
        with self.tracer.start_as_current_span(
            f"ledger {what}", record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except LedgerError as error:
                span.set_attribute("error.type", error.word)
                raise

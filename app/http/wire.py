"""What a request is read with and an answer is written with, at a fraction of the price of the stock classes.

Bodies are decoded strictly: no `"5"` and no `5.0` for an integer, no `null` for what may be left out, no
field that is not known. The Content-Type is not looked at, and an empty body is `{}`.
"""

import re
from typing import Any, ClassVar, Generic, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from litestar import Request, Response
from litestar.connection.base import empty_receive, empty_send
from litestar.datastructures import State
from litestar.dto import MsgspecDTO
from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Receive, Scope, Send
from litestar.types.empty import Empty
from litestar.utils.scope.state import ScopeState
from msgspec import UNSET

from app.access import Principal
from app.http.bodies import Asking, Body, Stamp
from app.http.lookups import Lookups
from app.http.pace import count_accounts
from app.http.parts import Caller, Parts
from app.http.problems import Headers, Problem, invalid
from app.http.queries import Query
from app.http.shapes import malformed
from app.ledger.ledger import Ledger

BODY_BYTES_MAX = 1_048_576
NOT_MODIFIED = 304
JSON = b"application/json"

T = TypeVar("T")
B = TypeVar("B", bound=Body)
Q = TypeVar("Q", bound=Query)

encode = msgspec.json.Encoder().encode
_KEY = re.compile(r"[ -~]{1,255}", re.ASCII)
_QUOTED = re.compile(r'"(?:[ !#-\[\]-~]|\\["\\])*"', re.ASCII)
_ESCAPED = re.compile(r'\\(["\\])')
_DIGITS = re.compile(r"\d{1,9}", re.ASCII)


class Strict(MsgspecDTO[B], Generic[B]):
    """Reads `data: Struct` with msgspec's own strict decoder instead of Litestar's lenient one."""

    decode: ClassVar[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if model := getattr(cls, "model_type", None):
            cls.decode = msgspec.json.Decoder(model).decode

    @classmethod
    def create_for_field_definition(cls, *_: Any, **__: Any) -> None:
        """There is no transfer model: the struct is the model."""

    @classmethod
    def create_openapi_schema(cls, field_definition: Any, handler_id: str, schema_creator: Any) -> Any:  # noqa: ARG003
        return schema_creator.for_field_definition(field_definition)

    def decode_bytes(self, value: bytes) -> Any:
        try:
            return self.decode(value)
        except (ValueError, RecursionError) as error:
            raise malformed(error, of=self.model_type) from None


class LedgerRequest(Request[Principal, None, State]):
    """A request as the controllers see it."""

    def __init__(self, scope: Scope, receive: Receive = empty_receive, send: Send = empty_send) -> None:
        # Litestar's own fills fifteen fields, of which only these are read on the ways of this API
        self.scope = scope  # type: ignore[assignment]
        self.receive = receive
        self.send = send
        self._connection_state = ScopeState.from_scope(scope)
        self._url = Empty
        self._parsed_query = Empty

    @property
    def caller(self) -> Caller:
        return cast("Caller", self.scope["caller"])  # type: ignore[typeddict-item]

    @property
    def parts(self) -> Parts:
        return cast("Parts", self.scope["parts"])  # type: ignore[typeddict-item]

    @property
    def ledger(self) -> Ledger:
        return self.parts.ledger

    @property
    def restricted(self) -> bool:
        """Whether the caller may touch some accounts only."""
        caller: Caller | None = self.scope.get("caller")  # type: ignore[assignment]
        return caller is not None and caller.principal.accounts is not None

    def header(self, name: bytes) -> bytes | None:
        """The last value of a header (lower-case name)."""
        caller: Caller | None = self.scope.get("caller")  # type: ignore[assignment]
        return caller.headers.get(name) if caller else None

    async def body(self) -> bytes:
        """The body, at most 1 MiB of it; `{}` where it is empty."""
        return await self.raw_body() or b"{}"

    async def raw_body(self) -> bytes:
        """The body as it came, at most 1 MiB of it."""
        message = await self.receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            whole: bytes = message.get("body", b"")
            _bound(len(whole))
            return whole
        announced = self.header(b"content-length")
        if announced is not None and announced.isdigit():
            _bound(int(announced))
        return await self._body_in_pieces(message)

    async def _body_in_pieces(self, message: Any) -> bytes:
        read = bytearray()
        while message["type"] == "http.request":
            read += message.get("body", b"")
            _bound(len(read))
            if not message.get("more_body", False):
                return bytes(read)
            message = await self.receive()
        raise invalid("The body ended too early.")

    def stamp(self, data: Asking) -> Stamp:
        """Who asks and under which key. The fingerprint is made only where there is a key."""
        self.caller.touches(data.whose())
        key = self.key()
        if key is None:
            data.unkeyed()
            return Stamp(self.caller.principal.by, None, None)
        return Stamp(self.caller.principal.by, key, data.fingerprint())

    def key(self) -> str | None:
        """The Idempotency-Key; and whether the answer waits for the journal is noted."""
        self.heed_acknowledgement()
        key = self.caller.headers.get(b"idempotency-key")
        return None if key is None else _key(key, self.scope["headers"])

    def heed_acknowledgement(self) -> None:
        """Note whether the answer waits for the journal."""
        acknowledge = self.caller.headers.get(b"lastro-ack")
        if acknowledge is not None:
            if acknowledge != b"journaled":
                raise invalid("Lastro-Ack: the only value is `journaled`.", field="Lastro-Ack")
            self.caller.waits = True

    async def operation(self, data: Asking) -> Any:
        """What the body asks of the ledger."""
        self.scope["asked"] = data  # type: ignore[typeddict-unknown-key]
        stamp, lookups = self.stamp(data), Lookups(self.parts, self.caller)
        account = data.whose()
        if self.parts.limiter is not None and account is not UNSET:
            (refusal,) = await count_accounts(self.parts.limiter, self.scope, [account])
            if refusal is not None:
                raise refusal
        data.wants(stamp, lookups)
        await lookups.look_up()
        return data.operation(stamp, lookups)

    def asked(self, query: type[Q]) -> Q:
        """The query, by its struct; each name at most once, no name that the struct does not have."""
        try:
            pairs = parse_qsl(
                self.scope["query_string"].decode("ascii"),
                keep_blank_values=True,
                strict_parsing=bool(self.scope["query_string"]),
                errors="strict",
                max_num_fields=32,
            )
            values: dict[str, str | int] = dict(pairs)
            if len(values) != len(pairs):
                raise invalid("Each query name may be given once.")
            for name in query.integers & values.keys():
                values[name] = _whole(str(values[name]))
            found = msgspec.convert(values, query)
        except ValueError as error:
            raise malformed(error, "query", of=query) from None
        self.scope["asked"] = found  # type: ignore[typeddict-unknown-key]
        return found


def _bound(size: int) -> None:
    if size > BODY_BYTES_MAX:
        raise Problem("body_too_large", {"limit": BODY_BYTES_MAX})


def _whole(text: str) -> int | str:
    """The integer, or the text itself for the decoder to refuse."""
    return int(text) if _DIGITS.fullmatch(text) else text


def _key(raw: bytes, headers: Any) -> str:
    if sum(name == b"idempotency-key" for name, _ in headers) > 1:
        raise invalid("Idempotency-Key: give it once.", field="Idempotency-Key")
    text = raw.decode("latin-1").strip(" \t")
    if text.startswith('"'):
        text = _ESCAPED.sub(r"\1", text[1:-1]) if _QUOTED.fullmatch(text) else ""
    if not _KEY.fullmatch(text):
        raise invalid(
            "Idempotency-Key: 1 to 255 printable ASCII characters, bare or between double quotes.",
            field="Idempotency-Key",
        )
    return text


class Answer(Response[T]):
    """An answer: a struct, its status and a few headers. Never cached by anybody."""

    def __init__(
        self,
        content: T,
        headers: Headers = (),
        status_code: int | None = None,
        media_type: bytes = JSON,
        cache: bytes = b"no-store",
        **_: Any,
    ) -> None:
        self.content = content
        self.more = headers
        self.status_code = status_code
        self.type = media_type
        self.cache = cache

    def to_asgi_response(
        self, *_: Any, status_code: int | None = None, headers: dict[str, str] | None = None, **__: Any
    ) -> Any:
        """Itself. Cookies and encoders, which Litestar would merge here, are not used."""
        if self.status_code is None:
            self.status_code = status_code
        if headers:
            self.more = [*self.more, *((name.encode(), value.encode()) for name, value in headers.items())]
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        content = self.content
        payload = content if isinstance(content, bytes) else encode(content)
        status = self.status_code or 200
        headers = [
            (b"content-type", self.type),
            (b"content-length", b"%d" % len(payload)),
            (b"cache-control", self.cache),
            *self.more,
        ]
        if status == NOT_MODIFIED:
            headers, payload = headers[2:], b""
        start: HTTPResponseStartEvent = {"type": "http.response.start", "status": status, "headers": headers}
        end: HTTPResponseBodyEvent = {"type": "http.response.body", "body": payload, "more_body": False}
        await send(start)
        await send(end)

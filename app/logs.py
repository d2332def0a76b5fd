"""Logging: one line an event on standard error; JSON, or colours where a person is looking.

A line that is written while a request is answered names that request (`request_id`), whoever writes it.
"""

import logging
import logging.config
import re
import sys
from binascii import hexlify
from collections.abc import Iterable
from contextvars import ContextVar
from random import getrandbits
from typing import Any

import structlog

HEADER = b"x-request-id"
_SANE = re.compile(rb"[A-Za-z0-9._:@/+=-]{1,128}")

request_id: ContextVar[bytes] = ContextVar("request_id")
"""Of the request that is being answered; set by the outermost door."""


def id_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The id that a caller gives its request, where it is a sane one; else a new one."""
    for name, value in headers:
        if name == HEADER and _SANE.fullmatch(value):
            return value
    return hexlify(getrandbits(64).to_bytes(8, "big"))  # every request pays for it: no secret, and no UUID


def set_up(level: str = "info") -> None:
    """Send what structlog and the standard library log (uvicorn, RQ) through one formatter.

    Args:
        level: `debug`, `info`, `warning` or `error`.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if sys.stderr.isatty():
        plain = structlog.dev.plain_traceback  # the other one shows the values of variables: keys, passwords
        renderers: list[structlog.typing.Processor] = [
            structlog.dev.ConsoleRenderer(exception_formatter=plain)
        ]
    else:
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _without_colours],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for noisy in ("asyncio", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _add_request(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    asked = request_id.get(None)
    if asked is not None:
        event.setdefault("request_id", asked.decode())
    return event


def _without_colours(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Uvicorn repeats its messages for terminals."""
    event.pop("color_message", None)
    return event

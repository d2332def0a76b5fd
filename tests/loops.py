"""Tests that are run on the loop of `lastro api`, and on asyncio's own."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

KEYWORD = inspect.Parameter.KEYWORD_ONLY
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test, once on each."""

    def run(loop: Callable[[], asyncio.AbstractEventLoop], **named: Any) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(test(**named))

    asked_for = [*inspect.signature(test).parameters, "loop"]
    run.__signature__ = inspect.Signature([inspect.Parameter(name, KEYWORD) for name in asked_for])
    run.__name__ = test.__name__
    return pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)(run)

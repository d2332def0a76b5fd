"""A process of the API of its own, to which deliveries come: `python -m tests.integration.webhooks.sender`.

Reads from its input a line with the settings and one with deliveries (`[provider, body, path]` each), says
that it is ready, waits for a line, sends them all at the same moment to its own doors, and prints what they
came to.
"""

import asyncio
import sys
from typing import Any

import httpx
import msgspec

from app.settings import Settings
from tests.http.conftest import running
from tests.http.doors import deliver
from tests.http.serving import create_app


async def send(settings: Settings, deliveries: list[tuple[str, dict[str, Any], str]]) -> list[str]:
    """The statuses, or HTTP's where it is not 200."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with running(app), httpx.AsyncClient(transport=transport, base_url="http://lastro.test") as client:
        while (await client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110 - it is the event
            await asyncio.sleep(0.05)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)  # the word to begin
        answers = await asyncio.gather(*(_one(client, *each) for each in deliveries))
    return list(answers)


async def _one(client: httpx.AsyncClient, provider: str, body: dict[str, Any], path: str) -> str:
    answer = await deliver(client, provider, body, path=path, signed=provider != "luma")
    return str(answer.json()["status"])


if __name__ == "__main__":
    given = msgspec.convert(msgspec.json.decode(sys.stdin.readline()), Settings)
    todo = msgspec.json.decode(sys.stdin.readline(), type=list[tuple[str, dict[str, Any], str]])
    told = asyncio.run(send(given, todo))
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")

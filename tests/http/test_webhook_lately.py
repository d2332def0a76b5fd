"""What came in at the doors of late, added up for operators."""

import asyncio

import pytest

from app.settings import Settings
from app.webhooks import inbox as of_inbox
from persistence.inbox import summary
from tests.http.doors import FAILED, SUCCEEDED, deliver, reserved, told, with_doors

ENDED = "SELECT count(*) FROM reservations WHERE status <> 'pending'"
AGED = "UPDATE webhook_inbox SET last_at = now() - interval '25 hours' WHERE named = 'old'"
BEGUN = """
UPDATE reservations SET created_at = i.received_at - make_interval(secs => $2) FROM webhook_inbox i
WHERE reservations.id = $1::uuid AND i.reservation = $1::uuid::text AND i.status = 'verified'
"""


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return with_doors(settings)


async def test_a_day_is_added_up_by_provider_and_by_what_came_of_it(app, client, stranger, database, journal):
    inbox = app.state.parts.receiving.inbox
    assert [] == await inbox.lately()
    waited = []
    for task in ("a", "b", "c"):
        waited.append((await reserved(client, provider="sync", taskId=task))["reservation"]["id"])
        await told(stranger, "sync", (FAILED if task == "c" else SUCCEEDED)["sync"](task))
    await told(stranger, "sync", SUCCEEDED["sync"]("a"))  # once more
    await told(stranger, "sync", FAILED["sync"]("a"))  # against its ending
    await told(stranger, "generic", SUCCEEDED["generic"]("nobody's"))
    await deliver(stranger, "generic", SUCCEEDED["generic"]("x"), signed=False)
    await inbox.write_rejected_now()
    # Each reservation was made 2, 4 and 6 s before its callback.
    async with asyncio.timeout(20):
        while 3 > await database.fetchval(ENDED):  # noqa: ASYNC110 - a worker does it
            await asyncio.sleep(0.05)
    for seconds, reservation in zip((2, 4, 6), waited, strict=True):
        await database.execute(BEGUN, reservation, seconds)
    found = {(each.provider, each.status): each for each in await inbox.lately()}
    assert {
        ("generic", "rejected"): (1, 1),
        ("generic", "waiting"): (1, 1),
        ("sync", "conflict"): (1, 1),
        ("sync", "verified"): (3, 4),
    } == {name: (each.rows, each.deliveries) for name, each in found.items()}
    verified = found["sync", "verified"]
    assert 4.0 == verified.callback_median_seconds
    assert 5.8 == pytest.approx(verified.callback_slow_seconds)
    assert 0 <= (verified.settling_slow_seconds or -1) < 60
    rejected = found["generic", "rejected"]
    assert (None, None) == (rejected.callback_median_seconds, rejected.callback_slow_seconds)


async def test_what_is_older_than_a_day_or_beyond_the_newest_rows_is_not_counted(
    app, stranger, database, monkeypatch
):
    for task in ("old", "b", "c", "d"):
        await told(stranger, "generic", SUCCEEDED["generic"](task))
    await database.execute(
        "UPDATE webhook_inbox SET last_at = now() - interval '25 hours' WHERE named = 'old'"
    )
    inbox = app.state.parts.receiving.inbox
    assert [3] == [each.rows for each in await inbox.lately()]
    monkeypatch.setattr(summary, "LATELY_ROWS_MAX", 2)
    assert [2] == [each.rows for each in await inbox.lately()]
    assert 5_000 == of_inbox.LATELY_ROWS_MAX

"""Later pages belong to the list of the first one, and a list that finds little says where it goes on."""

from datetime import UTC, datetime, timedelta

import pytest

from app.dashboard import reservations as pages
from app.ledger.shards import new_reservation_id
from persistence import searching

RESERVATION = """
INSERT INTO reservations (id, shard, account, status, reserved, captured, held, expires_at, created_at,
  settled_at, model, reserved_seq, ended_seq)
VALUES ($1::text::uuid, 0, 'ana', $2, 5, $3::bigint, 5 - $3::bigint, $4, $5, $6, $7, 1, $8)
"""


@pytest.fixture
def hold(database):
    """Makes a reservation some minutes ago, with five minutes of time."""

    async def hold(minutes, status="pending", model="flux"):
        at = datetime.now(UTC) - timedelta(minutes=minutes)
        id_ = new_reservation_id(0, int(at.timestamp() * 1000))
        spent = 5 if status == "confirmed" else 0
        ended = None if status == "pending" else at
        due = at + timedelta(minutes=5)
        values = [id_, status, spent, due, at, ended, model, None if ended is None else 2]
        await database.execute(RESERVATION, *values)
        return id_

    return hold


def older(page) -> str:
    """Where its list goes on."""
    (found,) = [given["href"] for tag, given in page.tags if tag == "a" and given.get("rel") == "next"]
    return found


def listed(page) -> list[str]:
    """The ids in its list."""
    ids = [given.get("id", "") for tag, given in page.tags if tag == "a"]
    return [each.removeprefix("r-") for each in ids if each.startswith("r-")]


@pytest.mark.parametrize("which", ["status=overdue", "age=hour", "status=all&age=hour&model=flux"])
async def test_what_goes_by_the_time_has_later_pages_too(operator, hold, monkeypatch, which):
    monkeypatch.setattr(pages, "ROWS_SHOWN", 2)
    made = [await hold(minutes) for minutes in (50, 40, 30, 20)]
    first = await operator.get(f"/dashboard/reservations?{which}")
    second = await operator.get(older(first))
    assert made[::-1] == listed(first) + listed(second)


async def test_a_list_that_finds_none_so_far_says_so_and_goes_on(operator, hold, monkeypatch):
    monkeypatch.setattr(searching, "WALKED_MAX", 2)
    wanted = await hold(50, "confirmed")
    for minutes in (40, 30, 20):
        await hold(minutes)
    path, found = "/dashboard/reservations?status=confirmed", []
    while not found:
        page = await operator.get(path)
        found = listed(page)
        if not found:
            assert "None among the newest of these." in page.text
            path = older(page)
    assert [wanted] == found


@pytest.mark.parametrize("at", ["-1", "now", "99999999999999", "\u0661"])
async def test_a_moment_that_is_none_is_refused(operator, at):
    answer = await operator.http.get("/dashboard/reservations", params={"age": "hour", "at": at})
    assert answer.status_code == 400

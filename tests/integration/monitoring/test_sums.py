"""Every number of monitoring is what adding up the whole journal by hand gives."""

import random

import pytest

from app.http.times import moment
from tests.integration.monitoring.comparing import assert_all
from tests.integration.monitoring.tally import Tally
from tests.integration.monitoring.years import Years

KINDS = {
    "granted", "deducted", "reserved", "confirmed", "cancelled", "expired", "refunded", "lapsed", "adjusted",
}  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
async def test_what_monitoring_says_of_a_random_history_is_what_adding_it_up_by_hand_gives(
    database, monitoring, timed, clock, journaled, count_all, seed
):
    years, chance = Years(timed, clock, journaled, seed), random.Random(seed)
    await years.begin()
    for _ in range(3):
        await years.go_on(80)
        await years.end()
        await count_all(chance.choice([7, 40, 1000]))
    tally = await Tally.of(database)
    assert tally.kinds().keys() >= KINDS
    assert any(each.line.entry.late for each in tally.endings)
    assert any(0 < (each.line.entry.captured or 0) < each.captured for each in tally.endings)
    await assert_all(tally, monitoring, chance, moment(clock.now_ms))

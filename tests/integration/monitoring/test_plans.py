"""Monitoring reads the days, hours and quarters that it needs, and not all quarters of the past."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from persistence.monitoring import PostgresMonitoring
from tests.integration.plans import nodes
from tests.integration.reading.test_plans import Noting

NOW = datetime(2026, 11, 22, 8, 27, tzinfo=UTC)

FILL = """
INSERT INTO usage_kinds (span, start, kind, count, credits)
SELECT span, start, 'granted', 1, 1
FROM (VALUES ('quarter', interval '15 minutes'), ('hour', '1 hour'), ('day', '1 day')) AS s (span, every),
  generate_series(timestamptz '2026-05-01Z', '2026-11-22Z', every) AS start;

INSERT INTO usage_pauses (span, start, class, began, ended)
SELECT span, start, class, 0, 0 FROM usage_kinds, generate_series(1, 15) AS class ORDER BY random();

INSERT INTO usage_models (span, start, model, transactions, credits, confirmed, ended, reserved, captured,
  milliseconds)
SELECT span, start, 'flux', 1, 1, 0, 0, 0, 0, 0 FROM usage_kinds;

ANALYZE;
"""


@pytest.fixture(scope="module", params=["America/Sao_Paulo", "Asia/Kathmandu", "UTC"])
def tz(request):
    return ZoneInfo(request.param)


async def test_no_question_reads_all_quarters(database, tz):
    async with database.acquire() as connection:
        await connection.execute(FILL)
        noting = Noting(connection)
        monitoring = PostgresMonitoring(noting, lambda: NOW)
        for period in ("hour", "day", "week", "month"):
            await monitoring.usage(period, None, None, tz)
            await monitoring.models(period)
        looked = [(query, values) for query, values in noting.asked if "pieces" in query]
        assert 12 == len(looked)
        for query, values in looked:
            found = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *values)
            plan = json.loads(found)[0]["Plan"]
            scans = {each["Relation Name"] for each in nodes(plan) if each["Node Type"] == "Seq Scan"}
            assert set() == scans & {"usage_kinds", "usage_pauses", "usage_models"}, query

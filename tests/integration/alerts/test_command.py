"""`lastro alerts`: what fires, who is told, what is watched."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from app.cli import cli
from app.rules import RULES
from tests.integration.alerts.conftest import SECRET, hearing

FIRES = """
INSERT INTO alerts (id, rule, subject, level, state, since, resolved_at, message) VALUES
  (gen_random_uuid(), 'fence', '', 'critical', 'firing', '2026-01-02 03:04:05Z', NULL, 'Shard 1 refuses.'),
  (gen_random_uuid(), 'model_failure_rate', 'sora', 'warning', 'resolved', '2026-01-02 03:04:05Z',
    '2026-01-02 03:06:05Z', '3 of 20 failed.')
"""


@pytest.fixture
def lastro(monkeypatch, database_url, redis_url):
    """Runs it beside whoever listens."""
    monkeypatch.setenv("LASTRO_DATABASE_URL", database_url)
    monkeypatch.setenv("LASTRO_REDIS_URL", redis_url)

    async def run(*arguments: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, cli, ["alerts", *arguments])
        return result.exit_code, result.output

    return run


async def test_what_fires_and_has_fired_is_listed(lastro, database):
    assert (0, "No alert fires.\n") == await lastro("list")
    await database.execute(FIRES)
    code, told = await lastro("list")
    assert 1 == code
    assert [
        "critical  fence, 2026-01-02 03:04:05 UTC",
        "          Shard 1 refuses.",
        "resolved  model_failure_rate (sora), 2026-01-02 03:04:05 to 2026-01-02 03:06:05 UTC",
        "          3 of 20 failed.",
    ] == told.splitlines()
    code, told = await lastro("list", "--state", "resolved", "--json")
    assert (0, ["sora"]) == (code, [each["subject"] for each in json.loads(told)])


async def test_a_test_says_who_has_taken_it_and_shows_no_secret(lastro, monkeypatch, ears):
    code, told = await lastro("test")
    assert (2, True) == (code, "LASTRO_ALERT_URLS is not set" in told)
    monkeypatch.setenv("LASTRO_ALERT_URLS", ears.url)
    assert (0, "1 (JSON): taken\n") == await lastro("test")
    assert ["Lastro: a test"] == ears.titles
    async with hearing() as broken:
        broken.status = 500
        monkeypatch.setenv("LASTRO_ALERT_URLS", f"{ears.url}, {broken.url}, nonsense://{SECRET}")
        code, told = await lastro("test")
    assert 1 == code
    assert [
        "1 (JSON): taken",
        "2 (JSON): It was not taken.",
        "3 (not understood): Apprise does not understand this URL.",
    ] == told.splitlines()
    assert SECRET not in told


async def test_rules_are_shown_as_they_are_set(lastro, monkeypatch):
    monkeypatch.setenv("LASTRO_THRESHOLDS", "backlog=0.25:0.75")
    code, told = await lastro("rules")
    rows = {line.split()[0]: line for line in told.splitlines()[1:]}
    assert (0, list(RULES)) == (code, list(rows))
    assert rows["backlog"].split()[1:3] == ["0.25", "0.75"]


@pytest.mark.parametrize("name", ["LASTRO_ALERT_URLS", "LASTRO_HEARTBEAT_URL", "LASTRO_ALERT_URL"])
async def test_a_wrong_setting_is_refused_without_what_is_secret_in_it(lastro, monkeypatch, name):
    monkeypatch.setenv(name, f"s://{SECRET} x" if name != "LASTRO_ALERT_URLS" else f"{SECRET} x")
    if name == "LASTRO_ALERT_URLS":
        monkeypatch.setenv(name, f"/{SECRET}")
    code, told = await lastro("rules")
    assert (2, True, False) == (code, name in told, SECRET in told)

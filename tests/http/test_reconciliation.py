"""Runs of the reconciliation over HTTP."""

from datetime import datetime

PATH = "/api/credits/reconciliation"


async def test_a_run_is_started_once_however_often_it_is_asked_for(client, database):
    first, second = await client.post(PATH), await client.post(PATH, json={})
    assert [202, 202] == [first.status_code, second.status_code]
    assert first.json() == second.json()
    assert ("running", 0, []) == tuple(first.json()[name] for name in ("status", "accounts", "drift"))
    assert "key:all" == await database.fetchval("SELECT by FROM reconciliations")
    assert {"data": [first.json()]} == (await client.get(PATH)).json()


async def test_past_runs_come_newest_first_with_their_drift(client, database):
    drift = '[{"accountId": "ana", "field": "available", "redis": 6, "journal": null}]'
    for minute, status in enumerate(("equal", "drift", "unknown")):
        await database.execute(
            "INSERT INTO reconciliations (started_at, finished_at, status, by, accounts, drift) "
            "VALUES ($1, $1, $2, 'system', 3, $3::jsonb)",
            datetime.fromisoformat(f"2026-01-02T03:{minute:02}:00+00:00"),
            status,
            drift if status == "drift" else "[]",
        )
    newest, middle = (await client.get(PATH, params={"limit": 2})).json()["data"]
    assert ("unknown", "2026-01-02T03:02:00.000Z") == (newest["status"], newest["finishedAt"])
    assert [{"accountId": "ana", "field": "available", "redis": 6, "journal": None}] == middle["drift"]


async def test_only_operators_may_look_and_start(client_of, client):
    async with await client_of("read", "spend", "grant") as other:
        assert [403, 403] == [(await other.get(PATH)).status_code, (await other.post(PATH)).status_code]
    assert 400 == (await client.post(PATH, json={"repair": True})).status_code
    assert 400 == (await client.get(PATH, params={"page": 1})).status_code

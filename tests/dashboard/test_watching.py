"""Models and alerts as pages."""

from app.rules import RULES
from persistence.monitoring.following import count
from tests.http.steps import do

MODELS, ALERTS = "/dashboard/models", "/dashboard/alerts"


async def test_where_no_model_was_used_the_page_says_how_one_is_named(operator):
    page = await operator.get(MODELS)
    assert "No model was used in the last day" in page.text
    assert "modelId" in page.text
    assert 400 == (await operator.get(f"{MODELS}?period=year")).status


async def test_models_are_shown_with_what_they_were_estimated_and_what_they_cost(
    operator, client, database, journal, until_journaled
):
    await do(client, "grant", accountId="alice", amount=10_000)
    for amount in (1_500, 500):
        made = await do(client, "reserve", accountId="alice", amount=2_000, modelId="kling-v2")
        await do(client, "confirm", reservationId=made["reservation"]["id"], amount=amount)
    made = await do(client, "reserve", accountId="alice", amount=10, modelId="kling-v2")
    await do(client, "cancel", reservationId=made["reservation"]["id"], cause="failed")
    await do(client, "deduct", accountId="alice", amount=3, modelId="caption")
    await until_journaled(8)
    async with database.acquire() as connection:
        while await count(connection):
            pass
    for period in ("hour", "day", "week", "month"):
        page = await operator.get(f"{MODELS}?period={period}")
        row = page.text.partition("kling-v2")[2]
        # Credits, what was set aside and what it came to, their ratio, and the share that failed.
        for told in ("2,000", "4,000", "50.0%", "33.3%"):
            assert told in row, (period, told)


async def test_what_fires_what_is_over_and_every_rule_is_shown(operator, database):
    page = await operator.get(ALERTS)
    assert "Nothing fires." in page.text
    for rule in RULES:
        assert rule in page.text
    assert "\u2265 0.2" in page.text  # the failure rate's warning
    assert "\u2264 1" in page.text  # workers: so many or fewer
    await database.execute(
        "INSERT INTO alerts (id, rule, subject, level, state, since, resolved_at, value, threshold, message)"
        " VALUES (gen_random_uuid(), 'model_failure_rate', 'kling', 'critical', 'firing', now(), NULL, 0.625,"
        " 0.5, '<script>alert(1)</script>'),"
        " (gen_random_uuid(), 'journal_lag', '', 'warning', 'resolved', now() - interval '90 s', now(), 12,"
        " 10, 'it was slow')"
    )
    page = await operator.get(ALERTS)
    assert "Nothing fires." not in page.text
    assert "Model failure rate kling" in page.text
    assert "0.625 where the threshold is 0.5" in page.text
    assert "<script>alert" not in page.html
    assert "it was slow" in page.text
    assert "1 min 30 s" in page.text
    assert "/dashboard/alerts/keys" in page.links()

"""Keys as pages: made, shown once, refused with a reason, revoked."""

from persistence.api_keys import create
from tests.dashboard.browsing import HOME

HERE = "/dashboard/alerts/keys"
WHY = "for the new shop"


async def fields(operator, **more: str) -> dict[str, str]:
    """The form as it stands, with nothing ticked."""
    form = (await operator.get(HERE)).form(HERE)
    kept = {name: form.fields[name] for name in ("csrf", "once")}
    return {**kept, "name": "shop", "reason": WHY, **more}


async def test_a_key_is_made_shown_once_and_works(operator, stranger):
    answer = await operator.post(HERE, await fields(operator, spend="true", grant="true", account="alice"))
    assert 200 == answer.status_code
    assert "no-store" in answer.headers["cache-control"]
    (token,) = [word for word in answer.text.split('"') if word.startswith("lk_")]
    told = await stranger.get(
        "/api/credits/balance?accountId=alice", headers={"authorization": f"Bearer {token}"}
    )
    assert "account_not_found" == told.json()["code"]
    told = await stranger.get(
        "/api/credits/balance?accountId=bob", headers={"authorization": f"Bearer {token}"}
    )
    assert 403 == told.status_code
    page = await operator.get(HERE)
    assert token not in page.html
    assert f"lk_{token.split('_')[1]}_" in page.text
    assert "grant, spend" in page.text
    assert WHY in page.text
    assert "dashboard:ana" in page.text


async def test_the_same_form_makes_one_key(operator, database):
    given = await fields(operator, read="true")
    await operator.post(HERE, given)
    again = await operator.post(HERE, given)
    assert 400 == again.status_code
    assert "this form was sent before" in again.text
    assert 1 == await database.fetchval("SELECT count(*) FROM api_keys WHERE name = 'shop'")


async def test_what_cannot_be_is_refused_and_the_audit_says_so(operator, database):
    for wrong in ({"name": "a b", "read": "true"}, {}, {"name": "ana", "read": "true"}):
        answer = await operator.post(HERE, await fields(operator, **wrong))
        assert 400 == answer.status_code
        assert "No key was made" in answer.text
    for malformed in (
        {"days": "0"}, {"days": "x"}, {"account": "a b"}, {"reason": ""}, {"read": "maybe"},
        {"name": "a\x00b"}, {"name": "x" * 65},
    ):  # fmt: skip
        answer = await operator.post(HERE, await fields(operator, **({"read": "true"} | malformed)))
        assert 400 == answer.status_code, malformed
    assert 1 == await database.fetchval("SELECT count(*) FROM api_keys")
    outcomes = await database.fetch("SELECT outcome FROM operator_actions")
    assert ["refused"] * 3 == [row["outcome"] for row in outcomes]


async def test_a_revoked_key_is_over_and_stands_in_the_audit(operator, database):
    await create(database, "old", ["read"])
    id_ = await database.fetchval("SELECT id::text FROM api_keys WHERE name = 'old'")
    page = await operator.get(HERE)
    assert f"{HERE}/{id_}" in page.links()
    page = await operator.get(f"{HERE}/{id_}")
    assert "cannot be brought back" in page.text
    assert "signed in with:" not in page.text
    form = page.form(f"{HERE}/{id_}")
    assert 400 == (await operator.post(form.action, form.fields)).status_code  # no reason
    page = await operator.send(form, reason="left the company")
    assert "Done: revoke key (old), revoked" in page.text
    assert f"{HERE}/{id_}" not in page.links()
    assert await database.fetchval("SELECT revoked_at IS NOT NULL FROM api_keys WHERE name = 'old'")
    assert 404 == (await operator.send(form, reason="again")).status
    assert 400 == (await operator.get(f"{HERE}/x")).status


async def test_whoever_revokes_the_own_key_is_warned_and_signed_out(operator, database):
    id_ = await database.fetchval("SELECT id::text FROM api_keys WHERE name = 'ana'")
    page = await operator.get(f"{HERE}/{id_}")
    assert "you will be signed out, too" in page.text
    page = await operator.send(page.form(f"{HERE}/{id_}"), reason="lost it")
    assert f"{HOME}/login" == page.answer.url.path

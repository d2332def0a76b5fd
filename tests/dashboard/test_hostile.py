"""What strangers have written is shown as they wrote it, and does nothing."""

import pytest

from tests.dashboard.browsing import HOME
from tests.dashboard.test_accounts import see
from tests.http.steps import do

EVIL = "<script>alert(1)</script>"
QUOTES = "\"'><img src=x onerror=alert(1)>{{ 7*7 }}&amp;"
TURNED = "evil \u202e txt.exe"


@pytest.mark.parametrize("account", ["..", ".", "a+b@c:d", "-", "_" * 128])
async def test_every_id_that_an_account_may_have_has_a_page(operator, client, journal, account):
    await do(client, "grant", accountId=account, amount=3)
    await see(operator, f"{HOME}/accounts", "Credit line")
    page = await operator.get(f"{HOME}/accounts")
    (leads,) = {link for link in page.links() if "accounts/one" in link}
    one = await operator.get(leads)
    assert (200, True) == (one.status, account in one.text)
    seen = await operator.send(one.form(f"{HOME}/accounts/adjust"), amount="1", reason="why")
    done = await operator.send(seen.form(f"{HOME}/accounts/adjust"))
    assert "Done: adjust" in done.text
    assert (await client.get("/api/credits/balance", params={"accountId": account})).json()["available"] == 4
    for link in done.links():
        if "export" in link:
            assert 200 == (await operator.http.get(link)).status_code


async def test_texts_are_shown_to_the_letter_and_are_no_part_of_the_page(operator, client, journal):
    metadata = {EVIL: QUOTES, "turned": TURNED}
    await do(client, "grant", accountId="alice", amount=100, reason=EVIL, metadata=metadata)
    made = await do(
        client, "reserve", accountId="alice", amount=10, modelId="m/+:x", taskId=QUOTES, provider="kling",
        resourceId=EVIL, reason=QUOTES, metadata=metadata,
    )  # fmt: skip
    id_ = made["reservation"]["id"]
    for path, words in (
        (f"{HOME}/accounts/one?account=alice", (EVIL, QUOTES, TURNED)),
        (f"{HOME}/reservations/{id_}", (EVIL, QUOTES, TURNED)),
        (f"{HOME}/reservations", ("m/+:x",)),
    ):
        page = await see(operator, path, *words)
        assert "<script>alert" not in page.html
        assert "<img src=x" not in page.html
        assert "49" not in [text for text in page.text.split() if text == "49"]
        assert not [tag for tag, given in page.tags if "onerror" in given]


async def test_a_reason_given_here_is_shown_to_the_letter_everywhere(operator, client, database, journal):
    await do(client, "grant", accountId="alice", amount=100)
    page = await operator.get(f"{HOME}/accounts/one?account=alice")
    seen = await operator.send(page.form(f"{HOME}/accounts/adjust"), amount="1", reason=EVIL + QUOTES)
    assert EVIL + QUOTES in seen.text
    done = await operator.send(seen.form(f"{HOME}/accounts/adjust"))
    assert EVIL + QUOTES in done.text
    assert EVIL + QUOTES == await database.fetchval("SELECT reason FROM operator_actions")
    for shown in (seen, done):
        assert "<script>alert" not in shown.html
        assert "<img src=x" not in shown.html


@pytest.mark.parametrize(
    "path",
    [
        f"/accounts?q={EVIL}",
        f"/accounts/one?account={EVIL}",
        f"/reservations?model={EVIL}",
        f"/reservations?cursor={EVIL}",
        f"/reservations/{EVIL.replace('/', '')}",
        f"/reservations/find?id={EVIL}",
        f"/{EVIL}",
        f"/accounts/one?account=alice&did={EVIL}",
        f"/login?next={EVIL}",
        f"?period={EVIL}",
        f"?{EVIL}",
    ],
)
async def test_what_stands_in_an_address_is_no_part_of_the_page(operator, path):
    page = await operator.get(HOME + path)
    assert page.status < 500
    assert page.answer.headers["content-type"].startswith("text/html")
    assert "<script>alert" not in page.html


@pytest.mark.parametrize(
    "cookie",
    ["lastro_theme=<b>", "lastro_zone=../../etc/passwd", "lastro_zone=Mars/Base", "lastro_session=\u00e9",
     "=;;=,", "lastro_session=" + "x" * 5000,
     "lastro_theme=dark; lastro_theme=light", 'lastro_session="\\201"'],
)  # fmt: skip
async def test_what_stands_in_cookies_is_no_part_of_the_page_and_no_bug(passerby, cookie):
    answer = await passerby.http.get(f"{HOME}/login", headers={"cookie": cookie.encode("latin-1")})
    assert 200 == answer.status_code
    assert "<b>" not in answer.text


OTHERS = [
    'prefs={"a":1}',
    "x=a b",
    "weird[0]=1",
    'x="a',
    "naked",
    "a=\u00e9",
    "x=1,2",
    "__x@y=1",
    "x=\x01",
    "=",
    ";;",
]


@pytest.mark.parametrize("other", OTHERS)
async def test_cookies_of_others_on_the_same_host_sign_nobody_out(operator, other):
    own = f"lastro_session={operator.http.cookies['lastro_session']}"
    operator.http.cookies.clear()
    for cookie in (f"{other}; {own}", f"{own}; {other}"):
        answer = await operator.http.get(HOME, headers={"cookie": cookie.encode("latin-1")})
        assert 200 == answer.status_code, cookie

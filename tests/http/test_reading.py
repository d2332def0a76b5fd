"""Balances and reservations from the engine, transactions from the journal."""

from tests.http.steps import JOURNALED, do, grant, reserve


async def test_a_balance_shows_the_lots_in_the_order_in_which_they_are_spent(client):
    await grant(client, amount=10, bucket="extras")
    await grant(client, amount=20, bucket="plan", priority=1)
    await grant(client, amount=30, bucket="plan", expiresAt="2100-01-01T00:00:00Z")
    answer = await client.get("/api/credits/balance?accountId=alice")
    assert {
        "accountId": "alice",
        "available": 60,
        "held": 0,
        "version": 3,
        "overdraftLimit": 0,
        "status": "active",
        "buckets": [
            {
                "bucket": "plan",
                "priority": 1,
                "expiresAt": "2100-01-01T00:00:00.000Z",
                "available": 30,
                "held": 0,
            },
            {"bucket": "plan", "priority": 1, "available": 20, "held": 0},
            {"bucket": "extras", "priority": 100, "available": 10, "held": 0},
        ],
    } == answer.json()


async def test_a_balance_is_not_sent_again_to_who_has_this_version(client):
    await grant(client)
    path = "/api/credits/balance?accountId=alice"
    first = await client.get(path)
    assert ('"1"', "no-store") == (first.headers["etag"], first.headers["cache-control"])
    for condition in ('"1"', 'W/"1"', '"0", "1"', "*"):
        again = await client.get(path, headers={"if-none-match": condition})
        assert (304, b"", '"1"') == (again.status_code, again.content, again.headers["etag"]), condition
        assert "content-length" not in again.headers
    for condition in ('"2"', "1", '"11"', ""):
        assert 200 == (await client.get(path, headers={"if-none-match": condition})).status_code, condition
    await grant(client)
    moved = await client.get(path, headers={"if-none-match": '"1"'})
    assert (200, '"2"') == (moved.status_code, moved.headers["etag"])


async def test_a_balance_may_bring_the_open_reservations_of_the_same_moment(client):
    await grant(client)
    held = [
        (await reserve(client, amount=amount, ttlSeconds=ttl))["reservation"]
        for amount, ttl in ((5, 90), (7, 60))
    ]
    settled = (await reserve(client, amount=9))["reservation"]
    await client.post("/api/credits/cancel", json={"reservationId": settled["id"]})
    answer = (await client.get("/api/credits/balance?accountId=alice&include=reservations")).json()
    assert 12 == answer["held"] == sum(each["held"] for each in answer["reservations"])
    assert [held[1], held[0]] == answer["reservations"]
    assert "reservations" not in (await client.get("/api/credits/balance?accountId=alice")).json()


async def test_a_reservation_is_found_by_its_id_in_any_case_and_by_its_task(client):
    await grant(client)
    held = (await reserve(client, taskId="t", provider="fal", resourceId="img_1"))["reservation"]
    for each in (held["id"], held["id"].upper()):
        assert held == (await client.get(f"/api/credits/reservations/{each}")).json()
    found = await client.get("/api/images/by-task-id?taskId=t&provider=fal")
    assert {
        "id": "img_1",
        "taskId": "t",
        "reservationId": held["id"],
        "accountId": "alice",
        "status": "pending",
    } == found.json()
    assert 404 == (await client.get("/api/images/by-task-id?taskId=t")).status_code


async def test_a_task_without_a_resource_is_found_with_null(client):
    await grant(client)
    await reserve(client, taskId="t")
    assert (await client.get("/api/images/by-task-id?taskId=t")).json()["id"] is None


async def test_whoever_asks_for_the_journal_is_told_that_it_has_the_entry(client, journal):
    ask = {"accountId": "alice", "amount": 100, "reason": "january", "metadata": {"a": "b"}}
    key = {"idempotency-key": "k"}
    first = await client.post("/api/credits/grant", json=ask, headers=JOURNALED | key)
    again = await client.post("/api/credits/grant", json=ask, headers=JOURNALED | key)
    for answer in (first, again):
        assert (201, "true") == (answer.status_code, answer.headers["lastro-journaled"])
    made = first.json()["transaction"]
    assert made == again.json()["transaction"]
    assert made == (await client.get(f"/api/credits/transactions/{made['id']}")).json()


async def test_without_a_journal_worker_the_answer_comes_and_says_false(client, monkeypatch):
    monkeypatch.setattr("persistence.journaled.WAIT_SECONDS", 0.05)
    answer = await client.post("/api/credits/grant", json={"accountId": "a", "amount": 1}, headers=JOURNALED)
    assert (201, "false") == (answer.status_code, answer.headers["lastro-journaled"])


async def test_a_receipt_of_another_incarnation_names_nothing(client, journal):
    answer = await client.post("/api/credits/grant", json={"accountId": "a", "amount": 1}, headers=JOURNALED)
    shard, incarnation, sequence = answer.json()["transaction"]["id"].split("-")
    other = f"{shard}-{int(incarnation) + 1}-{sequence}"
    assert 404 == (await client.get(f"/api/credits/transactions/{other}")).status_code


async def test_transactions_come_newest_first_in_pages_that_miss_nothing(client, journal):
    await grant(client)
    held = (await reserve(client, taskId="t", modelId="flux"))["reservation"]["id"]
    await client.post("/api/credits/confirm", json={"taskId": "t", "amount": 30})
    await client.post(
        "/api/credits/deduct", json={"accountId": "alice", "amount": 1, "reason": "r"}, headers=JOURNALED
    )
    path = "/api/credits/transactions"
    seen, cursor = [], None
    while True:
        page = (
            await client.get(
                path, params={"accountId": "alice", "limit": 3} | ({"cursor": cursor} if cursor else {})
            )
        ).json()
        assert 4 == page["version"]
        assert page["hasMore"] == (page["nextCursor"] is not None)
        seen += page["data"]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert [4, 3, 2, 1] == [each["version"] for each in seen]
    assert ["deducted", "confirmed", "reserved", "granted"] == [each["kind"] for each in seen]
    assert "r" == seen[0]["reason"]

    async def kinds(**query: str) -> list[str]:
        page = (await client.get(path, params={"accountId": "alice", **query})).json()
        return [each["kind"] for each in page["data"]]

    assert ["confirmed", "reserved"] == await kinds(reservationId=held.upper())
    assert ["confirmed", "reserved"] == await kinds(taskId="t")
    assert ["confirmed", "granted"] == await kinds(kind="granted,confirmed")
    assert ["confirmed", "reserved"] == await kinds(modelId="flux")
    assert [] == await kinds(to=seen[3]["at"])
    assert ["deducted"] == (await kinds(**{"from": seen[0]["at"]}))[:1]
    assert 4 == len((await client.get(path)).json()["data"])


async def test_a_cursor_serves_the_filter_that_it_came_from(client, journal):
    await grant(client)
    await client.post("/api/credits/deduct", json={"accountId": "alice", "amount": 1}, headers=JOURNALED)
    path = "/api/credits/transactions"
    cursor = (await client.get(path, params={"accountId": "alice", "limit": 1})).json()["nextCursor"]
    answer = await client.get(path, params={"accountId": "bob", "cursor": cursor})
    assert (400, "invalid_cursor") == (answer.status_code, answer.json()["code"])


async def test_a_key_of_one_account_sees_its_own_transactions_only(client, client_of, journal):
    await grant(client, "alice")
    answer = await client.post(
        "/api/credits/grant", json={"accountId": "bob", "amount": 1}, headers=JOURNALED
    )
    answer_of_alice = await client.post(
        "/api/credits/grant", json={"accountId": "alice", "amount": 1}, headers=JOURNALED
    )
    alice = await client_of("read", account="alice")
    listed = (await alice.get("/api/credits/transactions")).json()["data"]
    assert {"alice"} == {each["accountId"] for each in listed}
    theirs, own = answer.json()["transaction"]["id"], answer_of_alice.json()["transaction"]["id"]
    assert 404 == (await alice.get(f"/api/credits/transactions/{theirs}")).status_code
    assert 200 == (await alice.get(f"/api/credits/transactions/{own}")).status_code


async def test_a_transaction_by_its_id_says_all_that_the_answer_said(client, journal):
    await grant(client, amount=100, bucket="plan", expiresAt="2100-01-01T00:00:00Z")
    more = {"accountId": "alice", "amount": 10, "bucket": "plan", "rollover": 7}
    rolled = (await do(client, "grant", **more, expiresAt="2100-02-01T00:00:00Z"))["transaction"]
    spent = (await do(client, "deduct", accountId="alice", amount=30, modelId="flux"))["transaction"]
    refunded = (await do(client, "refund", transactionId=spent["id"], amount=10, reason="blurred"))[
        "transaction"
    ]
    taken = (await do(client, "adjust", accountId="alice", amount=-500, short="take", reason="fraud"))[
        "transaction"
    ]
    await client.post("/api/credits/grant", json={"accountId": "alice", "amount": 1}, headers=JOURNALED)
    assert (7, spent["id"]) == (rolled["rollover"], refunded["refundOf"])
    assert 500 - 90 == taken["shortfall"]
    for made in (rolled, spent, refunded, taken):
        assert made == (await client.get(f"/api/credits/transactions/{made['id']}")).json()

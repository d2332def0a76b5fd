"""`lastro simulate` at the doors of a whole running ledger: what a person sees who tries a deployment."""

import pytest

from tests.webhooks.deliveries import FAL_PRIVATE
from tests.webhooks.doors import WithDoors


@pytest.mark.parametrize("provider", ["replicate", "fal", "bfl", "kling", "sync", "heygen", "generic"])
def test_everybody_who_signs_is_let_in_and_settles_his_task(running: WithDoors, provider: str) -> None:
    reservation, _ = running.reserved(f"buyer-{provider}", provider, "task-1")
    secret = ["--secret", FAL_PRIVATE] if provider == "fal" else []
    assert [("failed", 200, "verified")] == running.simulate(
        provider, "--task", "task-1", "--outcome", "failed", *secret
    )
    assert ("cancelled", 0, 40) == running.found(reservation)


@pytest.mark.parametrize("provider", ["bfl", "luma", "generic"])
def test_a_callback_url_says_whose_it_is(running: WithDoors, provider: str) -> None:
    reservation, url = running.reserved(f"caller-{provider}", provider)
    assert [("succeeded", 401, 401)] == running.simulate(provider, "--url", url, "--wrong-signature")
    assert ("pending", 0, 0) == running.found(reservation)
    assert [("succeeded", 200, "verified")] == running.simulate(provider, "--url", url)
    assert ("confirmed", 40, 0) == running.found(reservation)


def test_a_success_that_comes_often_is_charged_once(running: WithDoors) -> None:
    reservation, _ = running.reserved("ana", "replicate", "often")
    answers = running.simulate("replicate", "--task", "often", "--times", 10)
    assert {200} == {status for _, status, _ in answers}
    assert {"verified", "duplicate"} >= {word for *_, word in answers}
    assert (("confirmed", 40, 0), 60) == (running.found(reservation), running.available("ana"))


def test_the_first_ending_stays_whatever_comes_after(running: WithDoors) -> None:
    reservation, _ = running.reserved("bea", "sync", "both")
    both = ["--outcome", "progress", "--outcome", "failed", "--outcome", "succeeded", "--times", 3]
    answers = running.simulate("sync", "--task", "both", *both, "--reorder")
    assert ["succeeded"] * 3 + ["failed"] * 3 + ["progress"] * 3 == [outcome for outcome, *_ in answers]
    assert "conflict" in [word for outcome, _, word in answers if outcome == "failed"]
    assert (("confirmed", 40, 0), 60) == (running.found(reservation), running.available("bea"))


def test_what_is_old_or_signed_by_somebody_else_moves_nothing(running: WithDoors) -> None:
    reservation, _ = running.reserved("cid", "kling", "forged")
    assert 401 == running.simulate("kling", "--task", "forged", "--late", 400)[0][1]
    assert 401 == running.simulate("kling", "--task", "forged", "--wrong-signature")[0][1]
    assert ("pending", 0, 0) == running.found(reservation)


def test_your_own_worker_says_what_is_confirmed(running: WithDoors) -> None:
    reservation, _ = running.reserved("dan", "generic", "own")
    running.simulate("generic", "--task", "own", "--amount", 7)
    assert ("confirmed", 7, 33) == running.found(reservation)


def test_a_payment_is_granted_once(running: WithDoors) -> None:
    paid = ["stripe", "--task", "pi_1", "--account", "eva", "--amount", 500]
    running.simulate(*paid, "--outcome", "progress", "--outcome", "succeeded", "--times", 5)
    running.simulate(*paid)
    assert 500 == running.available("eva")

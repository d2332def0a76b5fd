"""Who really sent it: by the senders' own vectors, under every fault that a delivery can have."""

import base64

import pytest

from app.webhooks.event import Delivery, Unverified
from app.webhooks.schemes import SIGNATURES_MAX, TOLERANCE_SECONDS
from tests.webhooks.deliveries import (
    FAL_PRIVATE,
    NOW,
    OTHERS,
    SECRETS,
    SENDERS,
    SIGNING,
    TASK,
    TIMED,
    Vector,
    made,
    signed,
    vectors,
)

VECTORS = vectors()
of_vector = pytest.mark.parametrize("vector", VECTORS, ids=[each.name for each in VECTORS])
of_signing = pytest.mark.parametrize("name", SIGNING)
of_timed = pytest.mark.parametrize("name", TIMED)


def refused(name: str, delivery: Delivery, secrets: list[str] | None = None, now: float = NOW) -> str:
    """Why it is refused. A check that fails by itself is no reason."""
    with pytest.raises(Unverified) as caught:
        SENDERS[name].verify(delivery, [SECRETS[name]] if secrets is None else secrets, now)
    assert "itself failed" not in str(caught.value), caught.value.__cause__
    return str(caught.value)


@of_vector
def test_what_the_senders_publish_is_proven(vector: Vector):
    SENDERS[vector.name].verify(Delivery(vector.headers, vector.body), [vector.secret], vector.at)


@of_vector
def test_what_the_senders_publish_is_what_we_sign(vector: Vector):
    secret = FAL_PRIVATE if vector.name == "fal" else vector.secret
    identity = vector.headers.get("webhook-id", "123e4567-e89b-12d3-a456-426614174000")
    ours = SENDERS[vector.name].sign(vector.body, secret, vector.at, identity)
    if vector.name == "fal":  # which signs the user's name too
        SENDERS["fal"].verify(Delivery(ours, vector.body), [vector.secret], vector.at)
    else:
        assert ours == {name: vector.headers[name] for name in ours}


@of_vector
def test_no_byte_of_a_published_delivery_can_be_another(vector: Vector):
    for place in range(len(vector.body)):
        other = bytearray(vector.body)
        other[place] ^= 1
        refused(vector.name, Delivery(vector.headers, bytes(other)), [vector.secret], vector.at)


@of_signing
def test_any_of_several_secrets_proves_it(name):
    for secrets in ([OTHERS[name], SECRETS[name]], [SECRETS[name], OTHERS[name]]):
        SENDERS[name].verify(made(name), secrets, NOW)


@of_signing
def test_another_secret_proves_nothing(name):
    assert "another" in refused(name, made(name), [OTHERS[name]])


@of_signing
def test_without_a_secret_nothing_is_proven(name):
    refused(name, made(name), [])


@of_signing
def test_without_any_header_nothing_is_proven(name):
    assert "no header" in refused(name, Delivery({}, made(name).body))


@of_signing
def test_no_header_may_be_missing_empty_twice_or_other_than_ascii(name):
    good = made(name)
    for header in good.headers:
        rest = {other: value for other, value in good.headers.items() if other != header}
        assert f"no header {header}" == refused(name, good._replace(headers=rest))
        assert f"no header {header}" == refused(name, good._replace(headers={**rest, header: ""}))
        assert "not ASCII" in refused(name, good._replace(headers={**good.headers, header: "é"}))
        assert "twice" in refused(name, good._replace(duplicated=frozenset({header})))


@of_signing
def test_a_header_that_nobody_reads_may_come_twice(name):
    SENDERS[name].verify(made(name)._replace(duplicated=frozenset({"accept"})), [SECRETS[name]], NOW)


@of_timed
@pytest.mark.parametrize("seconds", [-TOLERANCE_SECONDS, 0, TOLERANCE_SECONDS])
def test_what_is_signed_within_five_minutes_is_proven(name, seconds):
    SENDERS[name].verify(made(name, at=NOW + seconds), [SECRETS[name]], NOW)


@of_timed
@pytest.mark.parametrize("seconds", [-TOLERANCE_SECONDS - 1, TOLERANCE_SECONDS + 1])
def test_what_is_signed_at_another_time_is_not(name, seconds):
    said = "signed too long ago" if seconds < 0 else "signed in the future, by the clock here"
    assert said == refused(name, made(name, at=NOW + seconds))


@of_timed
def test_an_old_delivery_is_not_proven_by_another_time_in_its_header(name):
    old = made(name, at=NOW - 1000)
    moved = {header: value.replace(str(NOW - 1000), str(NOW)) for header, value in old.headers.items()}
    assert moved != old.headers
    assert "another" in refused(name, old._replace(headers=moved))


@of_timed
@pytest.mark.parametrize(
    "timestamp",
    [
        "0x10",
        "-1",
        "+1781080794",
        "1781080794.0",
        " 1781080794",
        "1_781_080_794",
        "9" * 13,
        "9" * 5000,
        "1e9",
    ],
)
def test_a_time_is_digits_and_no_more(name, timestamp):
    good = made(name)
    bad = {header: value.replace(str(NOW), timestamp) for header, value in good.headers.items()}
    assert "no Unix time" in refused(name, good._replace(headers=bad))


@pytest.mark.parametrize("name", ["replicate", "kling", "generic"])
def test_of_several_signatures_in_a_header_one_is_enough(name):
    good = made(name)
    right = good.headers["webhook-signature"]
    for listed in (f"v1,AAAA {right}", f"{right} v1a,AAAA", f"  v2,x  {right} ,"):
        headers = {**good.headers, "webhook-signature": listed}
        SENDERS[name].verify(good._replace(headers=headers), [SECRETS[name]], NOW)


@pytest.mark.parametrize("name", ["generic", "stripe"])
def test_a_header_of_more_signatures_than_anybody_has_keys_is_not_looked_through(name):
    good = made(name)
    (header, listed), between = list(good.headers.items())[-1], "," if name == "stripe" else " "
    wrong = "v1=00" if name == "stripe" else "v1,AAAA"
    for many, proves in ((SIGNATURES_MAX - 1, True), (SIGNATURES_MAX, False)):
        several = good._replace(headers={**good.headers, header: between.join([*[wrong] * many, listed])})
        if proves:
            SENDERS[name].verify(several, [SECRETS[name]], NOW)
        else:
            assert "more than" in refused(name, several)


@pytest.mark.parametrize("name", ["replicate", "kling", "generic"])
@pytest.mark.parametrize("said", ["v1a", "v2", "", "V1"])
def test_a_signature_of_another_version_counts_for_nothing(name, said):
    good = made(name)
    headers = {**good.headers, "webhook-signature": good.headers["webhook-signature"].replace("v1", said, 1)}
    refused(name, good._replace(headers=headers))


@pytest.mark.parametrize("name", ["replicate", "kling", "generic"])
def test_the_id_of_a_message_is_signed(name):
    good = made(name)
    refused(name, good._replace(headers={**good.headers, "webhook-id": "msg_other"}))


@pytest.mark.parametrize("name", ["sync", "stripe"])
def test_a_signature_may_be_listed_with_others_and_the_time_once(name):
    good = made(name)
    ((header, value),) = good.headers.items()
    right = value.partition(",")[2]
    for listed in (f"t={NOW},v1=00,{right}", f"{right}, t={NOW}".replace(" ", ""), f"t={NOW}, v0=1, {right}"):
        SENDERS[name].verify(good._replace(headers={header: listed}), [SECRETS[name]], NOW)
    assert "t= once" in refused(name, good._replace(headers={header: right}))
    assert "t= once" in refused(name, good._replace(headers={header: f"t={NOW},{value}"}))
    refused(name, good._replace(headers={header: value.replace("v1=", "v0=")}))


@pytest.mark.parametrize("prefix", ["", "sha1=", "SHA256=", "sha256"])
def test_the_signature_of_bfl_stands_behind_its_name(prefix):
    good = made("bfl")
    value = good.headers["x-bfl-signature"].removeprefix("sha256=")
    refused("bfl", good._replace(headers={"x-bfl-signature": prefix + value}))


def test_heygen_may_use_its_older_header():
    good = made("heygen")
    older = {"signature": good.headers["heygen-signature"]}
    SENDERS["heygen"].verify(good._replace(headers=older), [SECRETS["heygen"]], NOW)


def test_the_older_header_of_heygen_does_not_mend_the_newer():
    good = made("heygen")
    both = {"heygen-signature": "00", "signature": good.headers["heygen-signature"]}
    refused("heygen", good._replace(headers=both))


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ("", "no header"),
        ("é", "not ASCII"),
        ("zz", "not in hex"),
        ("0" * 129, "not in hex"),
        ("00", "another"),
        ("0" * 126, "another"),
        ("0" * 128, "another"),
        ("0" * 130, "another"),
    ],
)
def test_a_signature_of_fal_is_64_bytes_in_hex(signature, said):
    good = made("fal")
    assert said in refused(
        "fal", good._replace(headers={**good.headers, "x-fal-webhook-signature": signature})
    )


def test_the_user_and_the_request_in_fals_headers_are_signed():
    good = made("fal")
    for header in ("x-fal-webhook-user-id", "x-fal-webhook-request-id"):
        assert "another" in refused("fal", good._replace(headers={**good.headers, header: "other"}))


def test_who_signs_a_time_says_so():
    assert set(TIMED) == {name for name, sender in SENDERS.items() if sender.scheme.is_timed}


def test_luma_proves_nothing_whatever_is_set():
    for secrets in ([], ["x"], ["whsec_" + base64.b64encode(b"key").decode()]):
        with pytest.raises(Unverified):
            SENDERS["luma"].verify(made("luma"), secrets, NOW)


@pytest.mark.parametrize(
    ("name", "secret", "said"),
    [
        ("replicate", "", "base64"),
        ("replicate", "whsec_", "base64"),
        ("kling", "not base64!", "base64"),
        ("kling", "whsec_YQ", "base64"),
        ("generic", "whsec_" + base64.b64encode(bytes(15)).decode(), "16 bytes or more"),
        ("generic", "whsec_é", "base64"),
        ("bfl", "", "empty"),
        ("stripe", "", "empty"),
        ("sync", " \t\r\n", "empty"),
        ("fal", "AAAA", "32 bytes"),
        ("fal", FAL_PRIVATE + "AAAA", "32 bytes"),
        ("fal", "é" * 43, "32 bytes"),
        ("luma", "anything", "signs nothing"),
    ],
)
def test_a_secret_that_can_prove_nothing_is_refused_and_not_shown(name, secret, said):
    with pytest.raises(ValueError, match=said) as caught:
        SENDERS[name].demand(secret)
    assert secret in ("", "whsec_") or secret not in str(caught.value)


@of_signing
def test_a_good_secret_is_taken(name):
    SENDERS[name].demand(SECRETS[name])


@pytest.mark.parametrize("name", ["replicate", "kling", "generic"])
def test_a_secret_of_standard_webhooks_is_the_same_with_and_without_its_prefix(name):
    bare = SECRETS[name].removeprefix("whsec_")
    SENDERS[name].verify(made(name, secret=bare), ["whsec_" + bare], NOW)


@pytest.mark.parametrize("name", ["sync", "stripe", "bfl", "heygen"])
def test_senders_that_take_a_secret_as_text_take_its_prefix_too(name):
    secret = "whsec_dGVzdA=="
    SENDERS[name].verify(made(name, secret=secret), [secret], NOW)
    refused(name, made(name, secret=secret), [secret.removeprefix("whsec_")])


def test_a_check_that_fails_lets_nothing_in():
    broken = SENDERS["replicate"].scheme._replace(verify=lambda *_: 1 / 0)
    provider = type(SENDERS["replicate"])("broken", broken, SENDERS["replicate"].read)
    with pytest.raises(Unverified, match="itself failed: ZeroDivisionError"):
        provider.verify(made("replicate"), [SECRETS["replicate"]], NOW)


def test_bytes_that_are_no_text_can_be_proven_too():
    for name in SIGNING:
        SENDERS[name].verify(signed(name, b"\xff\x00" + TASK.encode()), [SECRETS[name]], NOW)

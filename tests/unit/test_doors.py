"""What the settings of webhooks mean, what is wrong with them, and where payloads say how many units."""

import json
from decimal import Decimal

import msgspec
import pytest

from app.settings import Settings, SettingsError
from app.webhooks import callback
from app.webhooks.configured import Doors
from app.webhooks.payload import decoded
from app.webhooks.units import units_at
from tests.http.doors import FAL_JWKS, MASTERS, SECRET

REQUIRED = {"LASTRO_REDIS_URL": "redis://r", "LASTRO_DATABASE_URL": "postgresql://p"}
MASTER = {"LASTRO_WEBHOOK_MASTER_SECRETS": MASTERS[0]}


def doors(**variables: str) -> Doors:
    return Doors.of(Settings.read(REQUIRED | variables))


def test_nothing_is_open_that_is_not_set():
    assert {} == doors().open
    assert not any(name in doors() for name in ("replicate", "fal", "luma", "stripe", "generic"))


def test_each_door_has_its_own_secrets():
    found = doors(
        LASTRO_WEBHOOK_REPLICATE_SECRETS=f" {SECRET} ,whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0,",
        LASTRO_WEBHOOK_BFL_SECRETS="callback, shared",
        LASTRO_WEBHOOK_LUMA_SECRETS="callback",
        LASTRO_WEBHOOK_STRIPE_SECRETS="whsec_x",
        LASTRO_WEBHOOK_FAL_JWKS=FAL_JWKS,
        **MASTER,
    )
    assert {"replicate", "bfl", "luma", "fal"} == found.open.keys()
    assert (SECRET, "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0") == found.open["replicate"].secrets
    assert (("shared",), True, False) == (
        found.open["bfl"].secrets, found.open["bfl"].by_callback, found.open["bfl"].is_unsigned,
    )  # fmt: skip
    assert found.open["luma"].is_unsigned
    assert "stripe" in found


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"LASTRO_WEBHOOK_REPLICATE_SECRETS": f"{SECRET},hush!"},
            "REPLICATE_SECRETS: secret 2 should be whsec_",
        ),
        (
            {"LASTRO_WEBHOOK_SYNC_SECRETS": "callback"} | MASTER,
            "`callback` is for bfl, generic, kling and luma",
        ),
        ({"LASTRO_WEBHOOK_LUMA_SECRETS": "hush"}, "luma signs nothing, only `callback` can be set"),
        ({"LASTRO_WEBHOOK_KLING_SECRETS": f"callback,{SECRET}"} | MASTER, "either secrets, or `callback`"),
        ({"LASTRO_WEBHOOK_GENERIC_SECRETS": "callback"}, "needs LASTRO_WEBHOOK_MASTER_SECRETS"),
        ({"LASTRO_WEBHOOK_MASTER_SECRETS": f"{MASTERS[0]},hush"}, "secret 2 should have at least 32 bytes"),
        ({"LASTRO_WEBHOOK_FAL_JWKS": '{"hush": 1}'}, "LASTRO_WEBHOOK_FAL_JWKS is not a JWKS"),
        ({"LASTRO_PUBLIC_URL": "credits.example"}, "LASTRO_PUBLIC_URL should be https://<host>"),
        ({"LASTRO_PUBLIC_URL": "https://credits.example/?a=b"}, "LASTRO_PUBLIC_URL should be"),
        (
            {"LASTRO_WEBHOOK_UNITS": "sync=outputDuration"},
            "LASTRO_WEBHOOK_UNITS: 'sync=outputDuration' should",
        ),
        ({"LASTRO_WEBHOOK_UNITS": "runway=/x"}, "the provider one of bfl, fal"),
        ({"LASTRO_WEBHOOK_UNITS": "sync=/a,sync=/b"}, "sync is there twice"),
    ],
)
def test_what_is_wrong_is_one_sentence_that_shows_no_secret(variables, said):
    with pytest.raises(SettingsError) as raised:
        Settings.read(REQUIRED | variables)
    assert said in str(raised.value)
    assert "hush" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_callback_needs_a_door_a_master_and_an_address():
    whole = {
        "LASTRO_WEBHOOK_REPLICATE_SECRETS": SECRET,
        "LASTRO_WEBHOOK_MASTER_SECRETS": ",".join(MASTERS),
        "LASTRO_PUBLIC_URL": "https://credits.example/",
    }
    url = f"https://credits.example/api/webhooks/replicate/id/{callback.token(MASTERS[0], 'replicate', 'id')}"
    found = doors(**whole).callback("replicate", "id")
    assert (url, None) == (found.url, found.secret)
    for missing in whole:
        rest = {name: value for name, value in whole.items() if name != missing}
        assert doors(**rest).callback("replicate", "id") is None


def test_a_token_is_of_one_master_one_provider_and_one_reservation_and_is_no_secret():
    of = [
        callback.token(master, provider, reservation)
        for master in MASTERS
        for provider in ("luma", "kling")
        for reservation in ("a", "b")
    ]
    secrets = [callback.secret(master, reservation) for master in MASTERS for reservation in ("a", "b")]
    assert 12 == len({*of, *secrets})
    assert callback.opens(MASTERS, "luma", "a", of[0])
    assert not callback.opens(MASTERS[1:], "luma", "a", of[0])
    assert not callback.opens(MASTERS, "luma", "a", secrets[0])
    assert not callback.opens((), "luma", "a", of[0])
    assert not callback.opens(MASTERS, "luma", "a", "")


PAYLOAD = b"""{"metrics": {"predict_time": 3.25, "zero": 0, "minus": -1, "much": 1e30, "long": 0.0000001},
 "text": "12.50", "word": "soon", "yes": true, "no": null, "list": [{"amount": 7}], "a/b": {"c~d": 5}}"""


@pytest.mark.parametrize(
    ("pointer", "units"),
    [
        ("/metrics/predict_time", "3.25"),
        ("/metrics/zero", "0"),
        ("/metrics/long", "0.000001"),
        ("/text", "12.5"),
        ("/list/0/amount", "7"),
        ("/a~1b/c~0d", "5"),
        ("/metrics/minus", None),
        ("/metrics/much", None),
        ("/metrics", None),
        ("/metrics/predict_time/x", None),
        ("/word", None),
        ("/yes", None),
        ("/no", None),
        ("/list/1/amount", None),
        ("/list/01/amount", None),
        ("/list/-/amount", None),
        ("/nothing", None),
    ],
)
def test_units_are_a_number_at_a_place_or_none(pointer, units):
    assert units == units_at(decoded(PAYLOAD), pointer)


def test_units_of_any_size_are_a_number_or_none():
    for value in (10**400, Decimal("1e-400"), Decimal("-0.0"), "9" * 64, "", "1" * 65, "\uff11", [], {}):
        found = units_at({"x": value}, "/x")
        assert found is None or len(found) <= 16
    assert "0" == units_at({"x": Decimal("-0.0")}, "/x")


def test_the_settings_are_the_same_in_a_child_process():
    settings = Settings.read(REQUIRED | MASTER | {"LASTRO_WEBHOOK_LUMA_SECRETS": "callback"})
    again = Settings.read(settings.environment())
    assert json.loads(msgspec.json.encode(settings)) == json.loads(msgspec.json.encode(again))
    assert Doors.of(again).open.keys() == {"luma"}

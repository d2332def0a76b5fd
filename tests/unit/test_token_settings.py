"""Which settings of users' tokens are refused."""

import pytest

from app.settings import SettingsError
from tests.unit.tokens import SECRET, settings


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"user_scopes": "cancel"}, "cancel would give the work away"),
        ({"user_scopes": "deduct,confirm"}, "confirm would give the work away"),
        ({"user_scopes": "grant"}, "grant is for API keys"),
        ({"user_scopes": "refund"}, "refund is for API keys"),
        ({"user_scopes": "read"}, "read is for API keys"),
        ({"user_scopes": "spend"}, "spend is for API keys"),
        ({"user_scopes": "deduct,"}, "LASTRO_USER_SCOPES"),
        ({"jwt_secrets": "short"}, "secret 1 of 1 has 5 bytes"),
        ({"jwt_secrets": f"{SECRET},"}, "secret 2 of 2 has 0 bytes"),
        ({"jwt_secrets": SECRET, "jwt_jwks_url": "https://login.example/"}, "are both set"),
        ({"jwt_jwks_url": "http://login.example/"}, "LASTRO_JWT_JWKS_URL should be https"),
        ({"jwt_jwks_url": "https://l/", "jwt_algorithms": "HS256"}, "HS256 is none of"),
        ({"jwt_jwks_url": "https://l/", "jwt_algorithms": "none"}, "none is none of"),
        ({"jwt_jwks_url": "https://l/", "jwt_algorithms": ""}, "nothing is none of"),
    ],
)
def test_settings_that_would_let_in_too_many_are_refused_and_show_no_secret(given, why):
    with pytest.raises(SettingsError, match=why) as refused:
        settings(**given)
    assert "short" not in str(refused.value)
    assert SECRET not in str(refused.value)

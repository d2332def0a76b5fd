from typing import Annotated

from msgspec import Meta

from app.settings.providers import OfProviders
from app.settings.wording import left_out, variable


class OfCallers(OfProviders, frozen=True, kw_only=True, rename=variable):
    """Who may call, from where, and how often."""

    jwt_secrets: Annotated[
        str,
        left_out(
            "no users' tokens",
            "Secrets of users' tokens (HS256), a comma between two; each at least 32 bytes",
        ),
    ] = ""
    jwt_jwks_url: Annotated[
        str, left_out("no users' tokens", "Where the keys of users' tokens are, instead of secrets")
    ] = ""
    jwt_algorithms: Annotated[
        str, Meta(description="What tokens may be signed with when `LASTRO_JWT_JWKS_URL` is set")
    ] = "RS256,ES256,EdDSA"
    jwt_audience: Annotated[str, left_out("not looked at", "What `aud` of a user's token must name")] = ""
    jwt_issuer: Annotated[str, left_out("not looked at", "What `iss` of a user's token must be")] = ""
    jwt_account_claim: Annotated[
        str,
        Meta(
            min_length=1,
            description="The claim that names the user's account, or a list of a team's accounts",
        ),
    ] = "sub"
    user_scopes: Annotated[
        str,
        left_out("none", "Verbs that users may call besides reading: of `deduct,reserve,extend,bind,quote`"),
    ] = ""
    cors_origins: Annotated[
        str,
        left_out("none", "Origins of pages that may ask from a browser: `https://shop.example`, comma list"),
    ] = ""
    key_requests_per_second: Annotated[
        int, Meta(ge=0, description="Requests of one key or user, with bursts of as many; 0: any number")
    ] = 0
    account_requests_per_second: Annotated[
        int,
        Meta(
            ge=0,
            description="Operations whose body names one account, with bursts of as many; 0: any number",
        ),
    ] = 0

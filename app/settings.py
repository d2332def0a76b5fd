"""What can be set, read once from `LASTRO_*` and never changed afterwards. Opens nothing.

`python -m app.settings` prints the table of the README.
"""

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from app.ledger.acknowledgement import Acknowledgement
from app.origins import origins
from app.tokens import Demands
from app.webhooks.configured import Doors, read_units

_PREFIX = "LASTRO_"
_REDIS_SCHEMES = ("redis", "rediss", "unix")
_DATABASE_SCHEMES = ("postgresql", "postgres")
_MIB = 1024 * 1024


def _left_out(default: str, description: str) -> Meta:
    """Of a text that may be left out; `default` is what happens then."""
    return Meta(description=description, extra={"default": default})


class SettingsError(Exception):
    """A setting is missing, unknown or wrong; the text names the variable, its value and what is wanted."""


def _variable(field: str) -> str:
    return _PREFIX + field.upper()


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=_variable):
    """All of it. Every field is the environment variable `LASTRO_<FIELD>`; units are in the names."""

    redis_url: Annotated[str, Meta(description="The Redis or Valkey that holds the ledger")]
    database_url: Annotated[str, Meta(description="The PostgreSQL that holds the journal")]
    queue_url: Annotated[str, _left_out("`LASTRO_REDIS_URL`", "That of the job queues")] = ""
    shards: Annotated[
        int, Meta(ge=1, le=4096, description="Slices of the accounts; fixed when the ledger is born")
    ] = 16
    host: Annotated[str, Meta(min_length=1, description="Where the API listens")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="Where the API listens")] = 8000
    ack: Annotated[
        str,
        Meta(
            description="What an answer waits for: `memory`, `fsync` (Redis' disk) or `replicated=N`"
            " (N replicas); docs/acknowledging.md"
        ),
    ] = "memory"
    backlog_max: Annotated[
        int, Meta(ge=1, description="Entries not yet in PostgreSQL above which nothing new is taken on")
    ] = 1_000_000
    backlog_bytes_max: Annotated[int, Meta(ge=_MIB, description="The same in bytes")] = 256 * _MIB
    stream_keep_seconds: Annotated[
        int, Meta(ge=0, description="How long Redis keeps entries that PostgreSQL has")
    ] = 3600
    stream_keep_bytes: Annotated[int, Meta(ge=0, description="How many bytes of them at most")] = 256 * _MIB
    holds_max: Annotated[int, Meta(ge=1, description="Open reservations of one account")] = 10_000
    queue_max: Annotated[int, Meta(ge=1, description="Operations that wait in one process")] = 10_000
    batch_max: Annotated[int, Meta(ge=1, le=1000, description="Operations in one call of the script")] = 256
    request_seconds: Annotated[
        float, Meta(gt=0, le=60, description="How long a request waits for the ledger")
    ] = 5.0
    backup_dir: Annotated[
        str, _left_out("none are taken", "Folder for backups that are taken by themselves, of workers")
    ] = ""
    backup_seconds: Annotated[int, Meta(ge=60, description="How long it is from one to the next")] = 86_400
    backup_keep: Annotated[int, Meta(ge=1, description="How many of them stay")] = 14
    public_url: Annotated[
        str,
        _left_out(
            "none are handed out",
            "Where providers find this API, for the callback URLs that `reserve` hands out",
        ),
    ] = ""
    webhook_master_secrets: Annotated[
        str,
        _left_out(
            "none are handed out",
            "Of which the tokens and secrets of callback URLs are made: the first makes them, all open",
        ),
    ] = ""
    webhook_replicate_secrets: Annotated[
        str, _left_out("off", "Secrets of the webhooks of Replicate, comma list")
    ] = ""
    webhook_bfl_secrets: Annotated[
        str,
        _left_out(
            "off",
            "Secrets of the webhooks of Black Forest Labs, comma list; `callback`: of callback URLs",
        ),
    ] = ""
    webhook_kling_secrets: Annotated[
        str,
        _left_out(
            "off", "Secrets of the webhooks of Kling, comma list; `callback`: unsigned, only by callback URL"
        ),
    ] = ""
    webhook_sync_secrets: Annotated[str, _left_out("off", "Secrets of the webhooks of Sync, comma list")] = ""
    webhook_heygen_secrets: Annotated[
        str, _left_out("off", "Secrets of the webhooks of HeyGen, comma list")
    ] = ""
    webhook_luma_secrets: Annotated[
        str,
        _left_out("off", "`callback`: webhooks of Luma, which signs nothing, by callback URL"),
    ] = ""
    webhook_stripe_secrets: Annotated[
        str, _left_out("off", "Secrets of the webhooks of Stripe, comma list")
    ] = ""
    webhook_generic_secrets: Annotated[
        str,
        _left_out(
            "off",
            "Secrets of the webhooks of your own workers, comma list; `callback`: of callback URLs",
        ),
    ] = ""
    webhook_fal_jwks: Annotated[
        str, _left_out("off", "Keys of the webhooks of fal: the URL of a JWKS, or the JWKS itself")
    ] = ""
    webhook_units: Annotated[
        str,
        _left_out(
            "what is held is confirmed",
            "Where callbacks say how many units were used, to be confirmed at the reservation's price: "
            "`replicate=/metrics/predict_time,sync=/outputDuration`",
        ),
    ] = ""
    webhook_stripe_clawback: Annotated[
        Literal["off", "on"],
        Meta(description="Whether refunds and disputes take the credits back, as far as there are any"),
    ] = "off"
    poll_bfl_key: Annotated[
        str, _left_out("not asked", "An API key of Black Forest Labs, to ask how tasks stand that are silent")
    ] = ""
    poll_luma_key: Annotated[
        str, _left_out("not asked", "An API key of Luma, to ask how tasks stand that are silent")
    ] = ""
    poll_runway_key: Annotated[
        str, _left_out("not asked", "An API key of Runway, to ask how tasks stand that are silent")
    ] = ""
    poll_sync_key: Annotated[
        str, _left_out("not asked", "An API key of Sync, to ask how tasks stand that are silent")
    ] = ""
    jwt_secrets: Annotated[
        str,
        _left_out(
            "no users' tokens",
            "Secrets of users' tokens (HS256), a comma between two; each at least 32 bytes",
        ),
    ] = ""
    jwt_jwks_url: Annotated[
        str, _left_out("no users' tokens", "Where the keys of users' tokens are, instead of secrets")
    ] = ""
    jwt_algorithms: Annotated[
        str, Meta(description="What tokens may be signed with when `LASTRO_JWT_JWKS_URL` is set")
    ] = "RS256,ES256,EdDSA"
    jwt_audience: Annotated[str, _left_out("not looked at", "What `aud` of a user's token must name")] = ""
    jwt_issuer: Annotated[str, _left_out("not looked at", "What `iss` of a user's token must be")] = ""
    jwt_account_claim: Annotated[
        str,
        Meta(
            min_length=1,
            description="The claim that names the user's account, or a list of a team's accounts",
        ),
    ] = "sub"
    user_scopes: Annotated[
        str,
        _left_out("none", "Verbs that users may call besides reading: of `deduct,reserve,extend,bind,quote`"),
    ] = ""
    cors_origins: Annotated[
        str,
        _left_out("none", "Origins of pages that may ask from a browser: `https://shop.example`, comma list"),
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
    events_to_private_addresses: Annotated[
        Literal["no", "yes"],
        Meta(
            description="Whether outgoing events may go to addresses of private networks, and by plain HTTP"
        ),
    ] = "no"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="What is logged at least")
    ] = "info"

    def __post_init__(self) -> None:
        if not self.queue_url:
            msgspec.structs.force_setattr(self, "queue_url", self.redis_url)
        for field, schemes in (
            ("redis_url", _REDIS_SCHEMES),
            ("queue_url", _REDIS_SCHEMES),
            ("database_url", _DATABASE_SCHEMES),
        ):
            _demand_url(field, getattr(self, field), schemes)
        self.acknowledgement  # noqa: B018 - raises where it is none
        Doors.of(self)
        read_units(self.webhook_units)
        Demands.of(self)
        origins(self.cors_origins)

    @property
    def acknowledgement(self) -> Acknowledgement:
        """What `ack` names."""
        try:
            return Acknowledgement.of(self.ack)
        except ValueError as error:
            raise ValueError(f"{_variable('ack')}={self.ack} {error}") from None

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ, *, folder: str = ".lastro") -> "Settings":
        """The settings of an environment, of which everything else than `LASTRO_*` is ignored. `folder`: in
        which somebody has looked for a running `lastro up`, for the error.

        Raises:
            SettingsError: See there. An unknown `LASTRO_*` is an error, because it is a misspelt one.
        """
        given = {name: value for name, value in environment.items() if name.startswith(_PREFIX)}
        if unknown := sorted(given.keys() - names()):
            raise SettingsError(f"{unknown[0]}={_shown(given[unknown[0]])} is not a setting of Lastro")
        try:
            return msgspec.convert(given, cls, strict=False)
        except msgspec.ValidationError as error:
            raise SettingsError(_explained(str(error), given, folder)) from error

    def environment(self) -> dict[str, str]:
        """The same settings as environment variables, for child processes."""
        return {name: str(value) for name, value in msgspec.to_builtins(self).items() if value is not None}


def names() -> frozenset[str]:
    """Every environment variable that is read."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(Settings))


def table() -> str:
    """All settings as a Markdown table."""
    rows = ["| setting | default | what it is |", "|---|---|---|"]
    for field in msgspec.structs.fields(Settings):
        meta = _meta(field)
        default = "required" if field.required else (meta.extra or {}).get("default", f"`{field.default}`")
        rows.append(f"| `{field.encode_name}` | {default} | {meta.description} |")
    return "\n".join(rows)


def _meta(field: msgspec.structs.FieldInfo) -> Meta:
    found: Any = field.type.__metadata__[0]
    assert isinstance(found, Meta)
    return found


def _demand_url(field: str, value: str | None, schemes: tuple[str, ...]) -> None:
    if value is not None and urlsplit(value).scheme not in schemes:
        starts = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"{_variable(field)}={_shown(value)} should start with {starts}")


def _explained(error: str, given: Mapping[str, str], folder: str) -> str:
    """The sentence of msgspec, `Expected ... - at `$.LASTRO_PORT``, with variable and value."""
    if missing := re.match(r"Object missing required field `(\w+)`", error):
        return (
            f"{missing[1]} is not set, and no running `lastro up` was found in {folder}; "
            "set it, start `make run`, or name another folder with --data"
        )
    what, _, where = error.partition(" - at `$.")
    name = where.rstrip("`")
    return f"{name}={_shown(given[name])}: {what[0].lower()}{what[1:]}" if name in given else error


def _shown(value: str) -> str:
    """A value without the password that a URL may carry."""
    return re.sub(r"//.*@", "//***@", value)


if __name__ == "__main__":
    print(table())  # noqa: T201 - this is its use

"""What can be set, read once from `LASTRO_*` and never changed afterwards. Opens nothing.

`python -m app.settings` prints the table of the README.
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from app.alerts import channel_urls, heartbeat_url
from app.demands import Demands
from app.ledger.acknowledgement import Acknowledgement
from app.ledger.connection import CLUSTER_SCHEMES, names_cluster
from app.origins import origins
from app.rules import read_rules
from app.settings.alerting import OfAlerting
from app.settings.wording import PREFIX, variable
from app.webhooks.configured import Doors, read_units

_REDIS_SCHEMES = ("redis", "rediss", "unix")
_DATABASE_SCHEMES = ("postgresql", "postgres")


class SettingsError(Exception):
    """A setting is missing, unknown or wrong; the text names the variable, its value and what is wanted."""


class Settings(OfAlerting, frozen=True, kw_only=True, rename=variable):
    """All of it, group upon group, because a struct has one base. Every field is the environment variable
    `LASTRO_<FIELD>`; units are in the names.
    """

    def __post_init__(self) -> None:
        if not self.queue_url:
            _demand_one_server(self.redis_url)
            msgspec.structs.force_setattr(self, "queue_url", self.redis_url)
        for field, schemes in (
            ("redis_url", (*_REDIS_SCHEMES, *CLUSTER_SCHEMES)),
            ("queue_url", _REDIS_SCHEMES),
            ("database_url", _DATABASE_SCHEMES),
        ):
            _demand_url(field, getattr(self, field), schemes)
        _demand_only_database(self.redis_url)
        self.acknowledgement  # noqa: B018 - raises where it is none
        Doors.of(self)
        read_units(self.webhook_units)
        Demands.of(self)
        origins(self.cors_origins)
        _named("thresholds", read_rules, self.thresholds)
        _named("alert_urls", channel_urls, self.alert_urls)
        _named("heartbeat_url", heartbeat_url, self.heartbeat_url)

    @property
    def acknowledgement(self) -> Acknowledgement:
        """What `ack` names."""
        try:
            return Acknowledgement.of(self.ack)
        except ValueError as error:
            raise ValueError(f"{variable('ack')}={self.ack} {error}") from None

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ, *, folder: str = ".lastro") -> "Settings":
        """The settings of an environment, of which everything else than `LASTRO_*` is ignored. `folder`: in
        which somebody has looked for a running `lastro up`, for the error.

        Raises:
            SettingsError: See there. An unknown `LASTRO_*` is an error, because it is a misspelt one.
        """
        given = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
        if unknown := sorted(given.keys() - names()):
            value = given[unknown[0]]
            shown = value if "://" not in value else "***"  # a secret, for all that is known of it
            raise SettingsError(f"{unknown[0]}={shown} is not a setting of Lastro")
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


def _named(field: str, read: Callable[[str], object], value: str) -> None:
    """Read a setting whose error does not name it, nor what else stands in it, which may be secret."""
    try:
        read(value)
    except ValueError as error:
        raise ValueError(f"{variable(field)} {error}") from None


def _demand_url(field: str, value: str | None, schemes: tuple[str, ...]) -> None:
    if value is not None and urlsplit(value).scheme not in schemes:
        starts = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"{variable(field)}={_shown(value)} should start with {starts}")


def _demand_one_server(redis_url: str) -> None:
    if names_cluster(redis_url):
        raise ValueError(
            f"{variable('queue_url')} is not set, and {variable('redis_url')}={_shown(redis_url)} is a "
            "cluster: the job queues need a Redis of their own, which is none"
        )


def _demand_only_database(redis_url: str) -> None:
    named = urlsplit(redis_url).path.strip("/")
    if names_cluster(redis_url) and named not in ("", "0"):
        raise ValueError(
            f"{variable('redis_url')}={_shown(redis_url)} names database {named}: a cluster has only "
            "database 0"
        )


def _explained(error: str, given: Mapping[str, str], folder: str) -> str:
    """The sentence of msgspec, `Expected ... - at `$.LASTRO_PORT``, with variable and value."""
    if missing := re.match(r"Object missing required field `(\w+)`", error):
        return (
            f"{missing[1]} is not set, and no running `lastro up` was found in {folder}; "
            "set it, start `make run`, or name another folder with --data"
        )
    what, _, where = error.partition(" - at `$.")
    name = where.rstrip("`")
    if what.startswith("Invalid enum value"):
        return f"{name}={given[name]} should be one of {', '.join(_choices(name))}"
    return f"{name}={_shown(given[name])}: {what[0].lower()}{what[1:]}" if name in given else error


def _choices(name: str) -> tuple[str, ...]:
    """What a setting may be that is one of a few words."""
    (field,) = (field for field in msgspec.structs.fields(Settings) if field.encode_name == name)
    return get_args(field.type.__origin__)


def _shown(value: str) -> str:
    """A value without the password that a URL may carry."""
    return re.sub(r"//.*@", "//***@", value)

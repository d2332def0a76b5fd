"""What a command tells people when it could not do what it was asked: one sentence, and exit code 2."""

from socket import gaierror
from typing import Any

import click


class Refusal(click.ClickException):
    """Could not tell, or was refused: one sentence and exit code 2. Code 1 means that something was found."""

    exit_code = 2


class Commands(click.Group):
    """Turns what the parts refuse, in sentences for people, into `Refusal`. Everything else is a bug."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except click.Abort:
            raise Refusal("Nobody said yes, and nothing was changed. --yes does not ask.") from None
        except KeyboardInterrupt:
            click.echo(err=True)
            raise Refusal("Cut off. The same command goes on, or begins again.") from None
        except Exception as error:
            if sentence := _sentence(error):
                raise Refusal(sentence) from error
            raise


def _sentence(error: Exception) -> str | None:
    """What to tell people about an error that is not a bug of ours; `None` for a bug."""
    from redis.exceptions import ConnectionError as NoRedis
    from redis.exceptions import MovedError, OutOfMemoryError, ReadOnlyError
    from redis.exceptions import TimeoutError as SilentRedis

    from app.embedded import CannotStart
    from app.ledger.admission import NO_CLUSTER, OF_A_CLUSTER, is_no_cluster
    from app.ledger.backing import BackingUnavailable, NotAdmitted
    from app.settings import SettingsError
    from persistence.api_keys import KeyNotFound, KeyRefused
    from persistence.archiving import ArchiveRefused
    from persistence.backup.manifest import BackupRefused
    from persistence.birth import BirthRefused
    from persistence.erase import EraseRefused
    from persistence.fences import FenceRefused
    from persistence.migrate import MigrationRefused
    from persistence.reconcile.command import Busy
    from persistence.reconcile.lost import NotAdoptable
    from persistence.restore import RestoreRefused
    from persistence.verify import CannotVerify

    told = (
        Busy,
        NotAdoptable,
        CannotStart,
        SettingsError,
        BackingUnavailable,
        NotAdmitted,
        FenceRefused,
        KeyNotFound,
        KeyRefused,
        BirthRefused,
        MigrationRefused,
        RestoreRefused,
        BackupRefused,
        CannotVerify,
        EraseRefused,
        ArchiveRefused,
    )
    if isinstance(error, told):
        return str(error)
    if isinstance(error, NoRedis) and is_no_cluster(error):
        return NO_CLUSTER
    if isinstance(error, NoRedis | SilentRedis):
        return f"Redis does not answer: {error}"
    if isinstance(error, MovedError):
        return OF_A_CLUSTER
    if isinstance(error, OutOfMemoryError | ReadOnlyError):
        return f"Redis refused: {error}"
    if type(error).__module__.startswith("asyncpg"):
        return f"PostgreSQL refused: {error}"
    if isinstance(error, ConnectionError | TimeoutError | gaierror):  # redis has errors of its own
        return f"PostgreSQL does not answer: {error}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else f"{type(error).__name__}: {error}"
    return None

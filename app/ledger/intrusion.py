"""A Redis that does not continue the journal and is not the one that was admitted: a loss, or a mistake."""

from app.ledger.judgement import Sighting, Standing, fault

WHAT_TO_DO = (
    "Name that one in LASTRO_REDIS_URL. If it is to be replaced by this one, stop what uses it, then run "
    "`lastro restore` with this one's address."
)


def is_intruder(standing: Standing, sighting: Sighting) -> bool:
    """Whether this server would be fenced for the shard though another one was admitted for it."""
    return (
        bool(standing.server and sighting.server)
        and sighting.server != standing.server
        and fault(standing, sighting) is not None
    )


def refusal(standing: Standing, *, outlived: bool) -> str:
    """Why an intruder is refused and fences nobody.

    Args:
        standing: Of the shard.
        outlived: The admitted one was alive beside it, and need not be now.
    """
    if outlived:
        return (
            f"Another Redis was being served for shard {standing.shard} beside this one, which has not taken "
            f"its place. {WHAT_TO_DO}"
        )
    shard = standing.shard
    return f"Another Redis is being served for shard {shard} right now, or was a moment ago. {WHAT_TO_DO}"

"""Where events wait to be delivered: one row for each, and one for each endpoint that it goes to.

An event is put in the transaction that makes it true, so that neither is there without the other. What nobody
wants to be told is not kept.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from app.events import EventType, Message, Payload, encode, rfc3339
from persistence.pool import Connection


class Made(NamedTuple):
    """An event that is to be told. `once`: it is not, if something was told under this name before."""

    type: EventType
    account: str | None
    at: datetime
    payload: Payload
    once: str | None = None


class Outbox:
    """Puts events where they are delivered from."""

    # Of endpoints: a removal waits until this has committed, or has happened before.
    PUT = """
    WITH listening AS MATERIALIZED (SELECT id, types FROM event_endpoints WHERE enabled FOR KEY SHARE),
    made AS (
      SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[])
        WITH ORDINALITY AS made (type, account, at, body, once, n)
    ),
    put AS (
      INSERT INTO events (type, account, at, body, once)
      SELECT type, account, at, body, once FROM made
      WHERE EXISTS (SELECT FROM listening WHERE types = '{}' OR made.type = ANY (types))
      ORDER BY n
      ON CONFLICT (once) DO NOTHING
      RETURNING id, type
    )
    INSERT INTO event_deliveries (event, endpoint, due_at)
    SELECT put.id, listening.id, $6 FROM put JOIN listening ON types = '{}' OR put.type = ANY (types)
    """

    @classmethod
    async def put(
        cls,
        connection: Connection,
        type_: EventType,
        account: str | None,
        payload: Payload,
        *,
        once: str | None = None,
    ) -> None:
        """Tell whoever listens, at once, if the caller's transaction commits.

        Args:
            connection: Inside the transaction that makes it true, or none.
            type_: What happened.
            account: Whom it is about, if it is about one.
            payload: Of the class that `app.events.TYPES` names.
            once: A name for what happened; whatever was put under it before is not put again.
        """
        now = datetime.now(UTC)
        await cls.put_all(connection, [Made(type_, account, now, payload, once)], now)

    @classmethod
    async def put_all(cls, connection: Connection, made: Sequence[Made], now: datetime) -> None:
        """The same for many, in their order, to be delivered from `now` on."""
        if not made:
            return
        bodies = [encode(Message(each.type, rfc3339(each.at), each.payload)).decode() for each in made]
        await connection.execute(
            cls.PUT,
            [each.type for each in made],
            [each.account for each in made],
            [each.at for each in made],
            bodies,
            [each.once for each in made],
            now,
        )

"""A connection to Redis on which a command leaves before anybody else of the process has a turn."""

import asyncio
from collections.abc import Iterable

from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError


class PromptConnection(Connection):
    """redis-py's, which limits the time of a write by `asyncio.wait_for`: before Python 3.12 that leaves the
    writing to a task of its own, behind all who are ready.

    The batcher hands out the answers of one call and sends the next: then those who were answered go on
    while Redis works, and not while it waits. TLS has another connection in redis-py, which is as it is.
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Write before anybody else has a turn, then wait until there is room for more.

        Raises:
            redis.exceptions.ConnectionError, redis.exceptions.TimeoutError: The connection was lost, perhaps
                long ago; nobody knows what of the command has left. The next one gets another connection.
        """
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        if isinstance(command, str):
            command = command.encode()
        writer = self._writer
        assert writer is not None, "connected"
        try:
            async with asyncio.timeout(self.socket_timeout):
                writer.writelines([command] if isinstance(command, bytes) else command)
                await writer.drain()
        except TimeoutError as error:
            await self.disconnect(nowait=True)
            raise RedisTimeoutError("Timeout writing to socket") from error
        except (OSError, RuntimeError) as error:  # uvloop's word for a transport that is closed
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"Error while writing to socket. {error}") from error
        except BaseException:
            await self.disconnect(nowait=True)
            raise

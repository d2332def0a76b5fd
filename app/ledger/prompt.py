"""A connection to Redis on which a command leaves before anybody else of the process has a turn."""

from collections.abc import Iterable

from redis.asyncio.connection import Connection


class PromptConnection(Connection):
    """redis-py's, which limits the time of a write by `asyncio.wait_for`: before Python 3.12 that leaves the
    writing to a task of its own, behind all who are ready.

    The batcher hands out the answers of one call and sends the next: then those who were answered go on
    while Redis works, and not while it waits. TLS has another connection in redis-py, which is as it is.
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Write. The rest is redis-py's: to connect before, to wait until all has left, and what fails."""
        if check_health and self.is_connected:
            await self.check_health()  # type: ignore[no-untyped-call]
        if self._writer is not None and isinstance(command, list):
            try:
                self._writer.writelines(command)
            except BaseException:
                await self.disconnect(nowait=True)
                raise
            command = []
        await super().send_packed_command(command, check_health=False)

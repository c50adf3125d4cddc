"""Sends events where no worker runs: in the app's own commands and in `headrace send`."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self

from headrace.declarations import Declarations
from headrace.flow.outgate import DirectSender, Outgate
from headrace.flow.sending import Sent, active_sender
from headrace.flow.topic import Topic
from headrace.log.connect import connect
from headrace.log.port import Log, TopicInfo
from headrace.provisioning import provision
from headrace.settings import Settings


@asynccontextmanager
async def open_outgate(
    app: str, log: Log, topics: Mapping[str, TopicInfo], settings: Settings
) -> AsyncIterator[Outgate]:
    """A writer of this process's own, for the time of the block."""
    # The process id keeps two of these apart: one writer per transactional id.
    instance = f"cli-{socket.gethostname()}-{os.getpid()}"
    gate = Outgate(app, instance, log, topics, record_bytes_max=settings.record_bytes_max)
    committing = asyncio.create_task(gate.run(), name="outgate")
    try:
        yield gate
    finally:
        committing.cancel()
        await asyncio.wait({committing})


class StandaloneSender:
    """Sends each event in a transaction of its own; opens the log when the first one is sent."""

    def __init__(self, declarations: Declarations, settings: Callable[[], Settings]) -> None:
        self._declarations = declarations
        self._settings = settings
        self._open = AsyncExitStack()
        self._direct: DirectSender | None = None

    async def __aenter__(self) -> Self:
        self._token = active_sender.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        active_sender.reset(self._token)
        await self._open.aclose()

    def key_in_hand(self) -> bytes | None:
        """There is no event in hand here."""
        return None

    async def send(self, topic: Topic[Any, Any], **event: Any) -> Sent:
        """Send an event; it is durable and visible when this returns. Raises: LogError, RecordTooLarge."""
        if self._direct is None:
            settings = self._settings()
            log = connect(settings)
            await log.open()
            self._open.push_async_callback(log.close)
            topics = await provision(log, settings, self._declarations.topics.values())
            gate = open_outgate(self._declarations.app_id, log, topics, settings)
            self._direct = DirectSender(await self._open.enter_async_context(gate))
        return await self._direct.send(topic, **event)

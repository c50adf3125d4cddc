"""Where Faust's worker and our runtime meet: what Faust starts, and how a failure ends the process."""

import asyncio
import gc
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from faust.app.base import BootStrategy
from faust.utils.terminal import SpinnerHandler
from mode import Service
from mode.types import ServiceT

from headrace.causes import first_cause
from headrace.restoring import show
from headrace.runtime import Runtime
from headrace.watchdog import Watchdog

if TYPE_CHECKING:
    from headrace.app import App

logger = logging.getLogger(__name__)

_GARBAGE_LOOKED_AT_EVERY = 10_000
"""Objects; a first look at so many takes less than a millisecond."""


def spare_the_collector() -> None:
    """Keep the garbage collector from what lives for ever, and let it look less often at what does not."""
    # Modules, declarations and codecs are 70,000 objects and more: a full collection that visits
    # them all held the loop for up to 105 ms.
    gc.collect()
    gc.freeze()
    # A unit makes tens of thousands of objects, none in cycles: a look at every 700 of them costs 5 %.
    gc.set_threshold(_GARBAGE_LOOKED_AT_EVERY)


def spare_unread_lines() -> None:
    """Let nobody make lines for debugging that are not to be shown.

    Faust's spinner, which is there at the levels from WARN on, turns with every line: for its sake the
    root logger takes all of them, and aiokafka makes two for each request.
    """
    root = logging.getLogger()
    for spinning in [each for each in root.handlers if isinstance(each, SpinnerHandler)]:
        root.removeHandler(spinning)
        root.setLevel(min((each.level for each in root.handlers), default=logging.WARNING))


class RuntimeService(Service):
    """The runtime as a service of Faust's worker: started with it, stopped with it, fatal to it."""

    def __init__(self, app: "App", **options: Any) -> None:
        super().__init__(**options)
        self._app = app
        self.runtime: Runtime | None = None
        self._watchdog: Watchdog | None = None
        self._running: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    async def on_start(self) -> None:
        """Begin the run; its HTTP server answers probes from here on."""
        spare_unread_lines()
        self.runtime = self._app.new_runtime()
        self._watchdog = Watchdog(self.runtime.vitals, self.runtime.settings)
        self._running = asyncio.create_task(self.runtime.run(), name="headrace runtime")

    @Service.task
    async def _show_restore(self) -> None:
        """Show how far the restore is; then keep the garbage collector from what lives for ever."""
        assert self.runtime is not None
        runtime = self.runtime
        await show(lambda: [*runtime.views(), *runtime.followed()], runtime.ready)
        spare_the_collector()

    @Service.task
    async def _watch_life(self) -> None:
        """Let the watchdog look from when /livez can be asked: what is loaded before may hold the loop."""
        assert self.runtime is not None
        assert self._watchdog is not None
        await self.runtime.listening.wait()
        self._watchdog.start()

    @Service.task
    async def _watch(self) -> None:
        """Raise what ends the run, so that the worker ends with exit status 1."""
        assert self._running is not None
        await asyncio.wait({self._running})
        try:
            if not self._running.cancelled() and (ended_by := self._running.exception()):
                error = first_cause(ended_by)
                logger.critical("%s: %s", type(error).__name__, error)
                raise error
        finally:
            self._app.current = None
            self._ended.set()

    async def on_stop(self) -> None:
        """Let the run finish its units in hand and close."""
        try:
            await self._stop_run()
        finally:
            # Not before: a stop that stands still is found, too.
            if self._watchdog is not None:
                self._watchdog.stop()

    async def _stop_run(self) -> None:
        if self.runtime is None or self._running is None:
            return
        self.runtime.stop()
        timeout_s = self.runtime.settings.stop_timeout_s * 1.1
        _, late = await asyncio.wait({self._running}, timeout=timeout_s)
        for task in late:
            logger.warning("The run did not stop within %s s and is cancelled", timeout_s)
            task.cancel()
            await asyncio.wait({task})

    async def wait_ready(self) -> None:
        """Return once every partition of the first assignment is served, or the run has ended."""
        assert self.runtime is not None, "Faust starts the services of the boot strategy first"
        ready = asyncio.create_task(self.runtime.ready.wait(), name="ready")
        ended = asyncio.create_task(self._ended.wait(), name="ended")
        try:
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            ended.cancel()


class Boot(BootStrategy):
    """Starts our runtime instead of Faust's consumer, producer, tables and web server."""

    enable_kafka = False

    def server(self) -> Iterable[ServiceT]:
        """The whole service graph."""
        return [*self.sensors(), cast("App", self.app).runtime_service]

    client_only = producer_only = server

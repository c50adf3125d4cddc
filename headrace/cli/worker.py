"""`worker`: Faust's, with the settings of our command line."""

import os
import platform
import socket
from importlib.metadata import version
from typing import Any, cast

from faust import Worker as FaustWorker
from faust.cli.worker import worker as faust_worker
from mode import Worker
from mode.utils.logging import level_name

from headrace.cli.command import command_line_settings, option
from headrace.cli.outcome import report
from headrace.errors import SettingsError
from headrace.logging_format import logging_config
from headrace.settings import Settings

CONTRACT_ONLY = "--contract-only"


class worker(faust_worker):
    """Run a worker of the app until it is told to stop (SIGTERM, Ctrl-C).

    Exit status: 0 stopped as told, 1 it could not go on and said why, 2 a setting is wrong, 70 its
    watchdog found that it stood still.

    \b
    Example:
      headrace -A app.shop worker -l info
    """

    daemon = True
    redirect_stdouts = True
    options = [
        *faust_worker.options,
        option(
            CONTRACT_ONLY,
            is_flag=True,
            show_default=False,
            help="Let the worker open no connection to a database (HEADRACE_CONTRACT_ONLY).",
        ),
    ]
    settings_of_run: Settings | None = None
    """None for an app that is Faust's alone."""

    def as_service(self, loop: Any, *args: Any, **kwargs: Any) -> Any:
        """The app, with its settings read; a wrong one ends the command before anything starts."""
        service = super().as_service(loop, *args, **kwargs)
        if hasattr(self.app, "settle"):
            try:
                given = command_line_settings(self.ctx)
                if self.kwargs.get("contract_only"):
                    given["contract_only"] = "true"
                settings: Settings = self.app.settle(given).settings
            except SettingsError as error:
                raise SystemExit(report(error, as_json=self.json)) from error
            self.settings_of_run = settings
            if (config := logging_config(settings.log_format)) is not None:
                self.app.conf.logging_config = config
        return service

    def on_worker_created(self, worker: Worker) -> None:
        """Write the banner, unless every line has to be JSON."""
        if self.settings_of_run is None or self.settings_of_run.log_format == "text":
            super().on_worker_created(worker)
        else:
            cast(FaustWorker, worker).spinner = None  # it draws with control characters

    def faust_ident(self) -> str:
        """The banner's title."""
        return f"headrace v{version('headrace')}" if self.settings_of_run else super().faust_ident()

    def _banner_data(self, worker: Worker) -> Any:
        settings = self.settings_of_run
        if settings is None:
            return super()._banner_data(worker)
        return [
            ("app", self.app.conf.id),
            ("log", settings.log),
            (
                "store",
                settings.store if settings.store == "memory" else f"{settings.store} in {settings.data}",
            ),
            ("http", f"http://{settings.http}"),
            ("log level", level_name(worker.loglevel or "WARN").lower()),
            ("process", f"{os.getpid()} on {socket.gethostname()}"),
            ("python", f"{platform.python_version()} {self._human_transport_info(worker.loop)}".strip()),
            ("faust", version("faust-streaming")),
        ]

"""`python -m app.before checkout`: one service of the old system, on the database of HEADRACE_DATABASE."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from app.before import checkout, loyalty, promotions
from app.before.connections import Connections
from app.catalogue import departments
from headrace.bridge.database import connect
from headrace.configuration import load
from headrace.errors import HeadraceError
from headrace.http.address import split_address

NAMES = ("checkout", "promotions", "loyalty")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one service until it is told to stop (SIGTERM, Ctrl-C)."""
    parser = argparse.ArgumentParser(prog="python -m app.before", description=__doc__)
    parser.add_argument("service", choices=NAMES)
    chosen = parser.parse_args(arguments).service
    try:
        settings = load(
            command_line={}, environment=os.environ, app_arguments={}, file=Path("headrace.toml")
        ).settings
        engine = connect(settings.database)
    except HeadraceError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    departments()  # read before the first request, which it would hold up
    host, port = split_address(settings.http, "the setting http")
    connections = Connections(engine, f"old {chosen}")
    match chosen:
        case "checkout":
            service = checkout.build(connections)
        case "promotions":
            service = promotions.build(connections)
        case _:
            service = loyalty.build(connections, settings)
    config = uvicorn.Config(service, host=host, port=port, log_level="info", access_log=False, ws="none")
    asyncio.run(uvicorn.Server(config).serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())

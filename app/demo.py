"""`python -m app.demo`: three services, a year of purchases, and the verdict."""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from app.client import NoAnswer
from app.folder import FolderInUse, fresh_folder
from app.grocery import GroceryYear, load_year
from app.replay import TILLS, Addresses, Progress, Replay
from app.screen import Screen
from app.service import Service, ServiceDied, await_ready, free_port
from app.truth import load_truth
from app.verdict import Answers, Verdict, compare
from app.whiteboard import SystemServer

NAMES = ("checkout", "promotions", "loyalty")
PORTS = (6066, 6067, 6068)
PAGE_PORT = 6065


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the result is the exit status."""
    parser = argparse.ArgumentParser(prog="python -m app.demo", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="end after the verdict, with status 0 or 1")
    parser.add_argument("--log", choices=("embedded", "kafka"), default="embedded", help="where facts live")
    options = parser.parse_args(arguments)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _interrupt)
    screen = Screen()
    try:
        with fresh_folder("demo") as folder, _log(options.log, folder, screen) as log_url:
            return _run(screen, folder, log_url, ends=options.exit)
    except (NoAnswer, ServiceDied, FolderInUse, NoBroker) as error:
        screen.say(f"The demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        screen.say("Stopped.")
        return 130 if options.exit else 0


def _run(screen: Screen, folder: Path, log_url: str, *, ends: bool) -> int:
    with _running(folder, log_url) as services, ExitStack() as stack:
        log_name = "the embedded log" if log_url.startswith("embedded:") else "Apache Kafka"
        screen.say(f"Starting {', '.join(NAMES)} on {log_name}; what they say is in {folder}")
        year = load_year()
        await_ready(services)
        addresses = Addresses(**{service.name: service.address for service in services})
        _announce(screen, year)
        page = stack.enter_context(SystemServer(asdict(addresses), free_port(PAGE_PORT)))
        screen.say(f"Watch it: {page.url}")
        began = time.monotonic()
        with screen.following(len(year.baskets), len(year.redemptions)) as show:
            Replay(year, addresses).run(_watching(services, show))
            answers = Answers.read(addresses)
        seconds = time.monotonic() - began
        verdict = compare(load_truth(), answers)
        events = len(year.baskets) + len(year.campaigns) + len(year.redemptions) + verdict.corrected
        screen.say(f"Applied {events:,} events in {seconds:.1f} s")
        screen.show_verdict(verdict)
        if not ends:
            _serve(screen, services, addresses, page.url)
    if ends:
        screen.say(_summary(verdict, events, seconds))
    return 0 if verdict.is_exact else 1


def _announce(screen: Screen, year: GroceryYear) -> None:
    days = year.days_with_redemption()
    screen.say(
        f"Replaying {len(year.baskets):,} baskets of {len(set(year.baskets.household_ids)):,} households"
        f" and {len(year.redemptions):,} coupon redemptions"
    )
    screen.say(
        f"{TILLS} tills ring up the {len(days):,} household-days with a redemption, and their"
        f" {sum(len(day.baskets) for day in days):,} baskets; the others come in bulk"
    )


def _summary(verdict: Verdict, events: int, seconds: float) -> str:
    return json.dumps(
        {
            "exact": verdict.is_exact,
            "households": verdict.households,
            "events": events,
            "seconds": round(seconds, 1),
        }
    )


class NoBroker(Exception):
    """Apache Kafka cannot be started on this machine."""


@contextmanager
def _log(kind: str, folder: Path, screen: Screen) -> Iterator[str]:
    """The address of the log; on Kafka a broker that lives as long as the demo."""
    if kind == "embedded":
        yield f"embedded://{folder / 'log.db'}"
        return
    # Imported here, because the rest of the demo needs neither Java nor Maven.
    from headrace.testing.kafka_broker import DEFAULT_LIB, BrokerFailed, KafkaBroker

    lib = Path(os.environ.get("HEADRACE_KAFKA_LIB", DEFAULT_LIB))
    if (reason := KafkaBroker.unavailable_reason(lib)) is not None:
        raise NoBroker(reason)
    screen.say("Starting Apache Kafka (its first start fetches it)")
    broker = KafkaBroker(lib=lib)
    try:
        broker.start()
        yield f"kafka://{broker.address}"
    except BrokerFailed as error:
        raise NoBroker(str(error)) from error
    finally:
        broker.stop()


@contextmanager
def _running(folder: Path, log_url: str) -> Iterator[Sequence[Service]]:
    """The three services; they are stopped whatever happens."""
    services = [
        Service(name, port=free_port(port), folder=folder, log_url=log_url)
        for name, port in zip(NAMES, PORTS, strict=True)
    ]
    with ExitStack() as stack:
        for service in services:
            stack.callback(service.stop)
            service.start()
        try:
            yield services
        except NoAnswer:
            time.sleep(0.5)  # whoever died just now needs a moment to be seen as dead
            for service in services:
                service.check()  # its last words explain more than the broken connection
            raise
        finally:
            for service in services:  # all at once; each is then waited for
                service.ask_to_stop()


def _watching(services: Sequence[Service], show: Callable[[Progress], None]) -> Callable[[Progress], None]:
    def watch(progress: Progress) -> None:
        for service in services:
            service.check()
        show(progress)

    return watch


def _serve(screen: Screen, services: Sequence[Service], addresses: Addresses, page_url: str) -> None:
    """Keep the services up until Ctrl-C. Raises: KeyboardInterrupt, ServiceDied."""
    screen.say("The services keep running until Ctrl-C. Try:")
    screen.say(f"  {page_url} (all three on one whiteboard)")
    screen.say(f"  curl -i http://{addresses.loyalty}/balances/1029")
    screen.say(f"  curl http://{addresses.loyalty}/departments/1029")
    screen.say(f"  curl 'http://{addresses.promotions}/coupons?limit=5'")
    while True:
        for service in services:
            service.check()
        time.sleep(0.5)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

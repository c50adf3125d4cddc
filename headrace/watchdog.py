"""Ends a worker that is not alive any more, so that the next one recovers: reason and stacks in the log.

It lives in a thread of its own, because what it watches is the loop first of all.
"""

import asyncio
import faulthandler
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from headrace.clock import SYSTEM_CLOCK, Clock, Timer
from headrace.settings import Settings
from headrace.vitals import Kind, Trouble, Vital, Vitals

logger = logging.getLogger(__name__)

EXIT_STATUS = 70
"""Of a worker that its watchdog ended (EX_SOFTWARE)."""
_TICK_MAX_S = 1.0
_TICKS_PER_BOUND = 5
_SAYING_S = 2.0
"""How long the log may take; whoever holds its lock may be what stands still."""
_TASKS_MAX = 200
_FRAMES_MAX = 12


class Watch:
    """Judges by the signs of life whether a worker is alive; knows neither threads nor the loop.

    Time counts only as far as the watch itself was on its feet: a process that was stopped, or that
    got no processor, finds its parts as young as it left them.
    """

    def __init__(self, vitals: Vitals, bounds_s: Mapping[Kind, float], tick_s: float) -> None:
        self._vitals = vitals
        self._bounds_s = bounds_s
        self._step_max_s = 2 * tick_s
        self._looked_at: float | None = None
        self._silent: dict[Vital, tuple[object, float]] = {}
        """The last sign of a part, and for how long there was no other one."""

    def look(self, now: float) -> Trouble | None:
        """What is wrong by now; to be asked every tick. `now` is monotonic."""
        passed = 0.0 if self._looked_at is None else min(now - self._looked_at, self._step_max_s)
        self._looked_at = now
        silent: dict[Vital, tuple[object, float]] = {}
        is_loop_silent = False
        for vital in sorted(self._vitals.all, key=lambda each: each.kind is not Kind.LOOP):
            sign = vital.sign
            known, for_s = self._silent.get(vital, (None, 0.0))
            if sign is None or sign != known:
                for_s = 0.0
            elif vital.kind is Kind.LOOP or not is_loop_silent:
                # While the loop stands still nothing in it can show a sign: that is not their fault.
                for_s += passed
                is_loop_silent |= vital.kind is Kind.LOOP
            silent[vital] = (sign, for_s)
        self._silent = silent
        return self._judged()

    def _judged(self) -> Trouble | None:
        order = list(Kind)
        for vital in sorted(self._silent, key=lambda each: order.index(each.kind)):
            _, for_s = self._silent[vital]
            bound_s = self._bounds_s[vital.kind]
            if vital.ended:
                return Trouble(vital.kind, f"{vital.name} {vital.ended}")
            if 0 < bound_s <= for_s:
                return Trouble(vital.kind, f"{vital.name} has shown no sign of life for {for_s:.0f} s")
        return None


class Watchdog:
    """The thread that looks, and ends the process. Started and stopped on the loop that it watches."""

    def __init__(
        self,
        vitals: Vitals,
        settings: Settings,
        *,
        clock: Clock = SYSTEM_CLOCK,
        exit_: Callable[[int], object] = os._exit,
    ) -> None:
        self._vitals = vitals
        self._clock = clock
        self._exit = exit_
        self._interpreter_bound_s = settings.interpreter_silence_max_s
        self._grace_s = settings.watchdog_grace_s
        bounds_s = bounds_of(settings)
        self._tick_s = min([_TICK_MAX_S, *(each / _TICKS_PER_BOUND for each in bounds_s.values() if each)])
        self._watch = Watch(vitals, bounds_s, self._tick_s)
        self._vital = vitals.add(Kind.LOOP, "the event loop")
        self._is_over = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next_beat: Timer | None = None
        self._thread = threading.Thread(target=self._run, name="headrace-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._loop = asyncio.get_running_loop()
        self._vital.expect()
        self._beat()
        # By this thread: the other one may never get its first turn.
        self._arm_backstop()
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a worker that was found dead ends all the same."""
        self._is_over.set()
        if self._next_beat is not None:
            self._next_beat.cancel()

    def _beat(self) -> None:
        self._vital.beat()
        self._next_beat = self._clock.call_later(self._tick_s, self._beat)

    # --- in the thread

    def _run(self) -> None:
        try:
            while not self._is_over.wait(self._tick_s):
                self._arm_backstop()
                trouble = self._watch.look(self._clock.monotonic())
                if trouble is not None:
                    self._end(trouble)
                    return
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _arm_backstop(self) -> None:
        """A call that does not even let go of the interpreter stops this thread, too, but no C thread."""
        if self._interpreter_bound_s and sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(self._interpreter_bound_s, exit=True, file=sys.__stderr__)

    def _end(self, trouble: Trouble) -> None:
        self._vitals.trouble = trouble
        began = time.monotonic()
        # Whatever holds the lock of the log, or the pipe behind it, must not keep the process.
        saying = threading.Thread(target=self._say, args=(trouble,), name="headrace-last-words", daemon=True)
        saying.start()
        saying.join(_SAYING_S)
        if trouble.kind is not Kind.LOOP:
            # Time for whoever asks /livez to be told the reason.
            time.sleep(max(0.0, self._grace_s - (time.monotonic() - began)))
        self._exit(EXIT_STATUS)

    def _say(self, trouble: Trouble) -> None:
        logger.critical(
            "Watchdog: %s: %s. This worker ends with status %s; the next one recovers.\n%s",
            trouble.kind.value,
            trouble.what,
            EXIT_STATUS,
            stacks(self._loop),
        )


def bounds_of(settings: Settings) -> Mapping[Kind, float]:
    """For how long there may be no sign of life; 0: for ever."""
    membership_s = settings.membership_silence_max_s
    return {
        Kind.LOOP: settings.loop_silence_max_s,
        Kind.BROKER: settings.broker_silence_max_s,
        Kind.FETCH: settings.fetch_silence_max_s,
        # A join is answered when the slowest member has joined, or was given up after its session.
        Kind.MEMBERSHIP: membership_s and max(membership_s, 2 * settings.session_timeout_s),
        Kind.HANDLER: settings.handler_time_max_s,
    }


def stacks(loop: asyncio.AbstractEventLoop | None) -> str:
    """Where every thread and every task of the loop is, for people."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = []
    for ident, frame in sys._current_frames().items():
        lines += [f"Thread {names.get(ident, ident)}:\n", *traceback.format_stack(frame)]
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name()) if loop is not None else []
    for task in tasks[:_TASKS_MAX]:
        lines += [f"Task {task.get_name()}:\n", *_frames(task)]
    if len(tasks) > _TASKS_MAX:
        lines.append(f"and {len(tasks) - _TASKS_MAX} more tasks\n")
    return "".join(lines)


def _frames(task: "asyncio.Task[Any]") -> list[str]:
    """The chain of coroutines, down to what it waits for."""
    frames: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None and len(frames) < _FRAMES_MAX:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is not None:
            frames += traceback.format_stack(frame, limit=1)
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    return frames

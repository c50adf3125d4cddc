"""Answers that contain what was asked for: what is waited for, and what cannot be judged here."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from headrace.clock import Clock
from headrace.errors import ForeignToken, HeadraceError, NotReached, PositionError, TableError, UntrueToken
from headrace.events.position import Position, TopicPartition
from headrace.events.seen import NOTHING_SEEN, TOPIC_BYTES, Print, Seen, partition_of
from headrace.events.token import Token
from headrace.http.consistency import Asked
from headrace.http.patience import Patience, WaitingRoom
from headrace.http.problems import Problem, RawHeader, problem_of
from headrace.log.inquiry import Inquiry, Ranges
from headrace.settings import Settings
from headrace.tables.view import PartitionView

_LAST_LOOK_S = 0.25
"""How long the log is asked by who does not want to wait, or has waited in vain: for what is in the way."""
_UNPROVEN_MAX = 32
"""So many components are listed by name; that there are more is said."""
_CUT = "cut"


class Standing(Protocol):
    """A partition, as far as its rows are."""

    @property
    def position(self) -> Position:
        """What the rows contain of the inputs."""

    @property
    def seen(self) -> Seen:
        """What they contain beyond that."""


class Claim(NamedTuple):
    """One component of a token: that so much is in the log."""

    print_: Print
    place: TopicPartition
    offset_next: int


class Waits:
    """Judges what requests ask for, and lets them wait for it.

    A token is judged on the table's own inputs first: what is missing of them is waited for. What
    it names beyond them is proven by what the rows' stamps tell, or said to be unproven. Whether
    what it names is in the log at all is asked of the log while the request waits, once for all
    requests of a moment, and only where nothing here tells.
    """

    def __init__(self, inquiry: Inquiry, settings: Settings, clock: Clock) -> None:
        self.room = WaitingRoom(clock, settings.read_waiters_max)
        self._inquiry = inquiry

    # --- reads

    async def reach(self, asked: Asked, views: Sequence[PartitionView]) -> Asked:
        """Return when these partitions contain what is asked for; the result is what was judged.

        That is what was asked, but for a cookie that leads nowhere. Cancel: nothing is left.
        Raises: NotReached, UntrueToken, ForeignToken, TooManyWaiters, LogError, and as
        `PartitionView.waiter`.
        """
        if not asked.may_wait:
            return asked
        try:
            with Patience(self.room, asked.wait_s) as patience:
                missing = await self._missing(asked, views, patience)
            if missing:
                raise await self._in_vain(missing, views, asked.wait_s)
        except PositionError:
            if not asked.is_cookie:
                raise
            return await self.reach(asked.without_cookie(), views)
        return asked

    def tolerated(self, asked: Asked) -> Asked:
        """The same without a cookie that leads nowhere, as far as that can be told without asking."""
        if asked.is_cookie and asked.token is not None:
            try:
                asked.token.located(self._inquiry.catalog)
            except ForeignToken:
                return asked.without_cookie()
        return asked

    def is_contained(self, token: Token, view: PartitionView) -> bool:
        """Whether this partition is known to hold all that a token names: `reach` would return at once.

        False also where that would take more than a look: it is asked of `reach` then.
        """
        catalog = self._inquiry.catalog
        if token.seen.is_cut or not token.is_of(catalog):
            return False
        position = view.position
        for print_, offset in token.seen.items():
            place = catalog.place_of(print_)
            if place is None or not self._inquiry.exists(place):
                return False
            if place in position:
                if position[place] < offset:
                    return False
            elif view.seen.get(print_, 0) < offset:
                is_of_inputs = any(place.topic == each.topic for each in position)
                if not is_of_inputs or not self._inquiry.has_reached(place, offset):
                    return False
        return True

    async def _missing(
        self, asked: Asked, views: Sequence[PartitionView], patience: Patience
    ) -> Mapping[TopicPartition, int]:
        """What is still missing when the time is over; empty: nothing."""
        for view in views:
            # One that is not served has no position yet: nothing would be missing of it.
            view.lacking(Position())
        token = asked.demanded
        claims = await self._claims(token, patience) if token is not None else ()
        needed = Position({claim.place: claim.offset_next for claim in claims})
        doubt = self._doubt([c for c in claims if not self._is_borne_out(c, views)], patience)
        if asked.is_latest:
            ends = self._inquiry.ranges([place for view in views for place in view.position])
            if not await patience.until_answered(ends):
                raise self._not_reached("the log did not say in time how far it is", views)
            needed = needed.merge(Position({place: held.end for place, held in ends.result().items()}))
        if missing := await _until_contained(needed, views, patience):
            return missing
        if doubt is not None and not all(self._is_borne_out(claim, views) for claim in doubt.claims):
            # Untrue is untrue, also where nothing had to be waited for. If the log does not say, it
            # is unproven, which the answer says.
            await patience.until_answered(doubt.answer)
            doubt.check()
            # Meanwhile a partition may have been taken over: look again, in the turn in which it is read.
            return await _until_contained(needed, views, patience)
        return {}

    async def _in_vain(
        self, missing: Mapping[TopicPartition, int], views: Sequence[PartitionView], waited_s: float
    ) -> HeadraceError:
        """What to say of a wait that was in vain: also what was in the way."""
        why = f"the position asked for was not reached within {waited_s:g} s"
        ranges: Ranges = {}
        if waited_s > 0:
            answer = self._inquiry.ranges(missing.keys())
            with Patience(self.room, _LAST_LOOK_S) as patience:
                if await patience.until_answered(answer) and answer.exception() is None:
                    ranges = answer.result()
        for place, held in ranges.items():
            if missing[place] > held.end:
                return _untrue(place, missing[place])
            if held.stable < min(missing[place], held.end):
                why += f"; a transaction that is open at {_text(place, held.stable)} is in the way"
        return self._not_reached(why, views, missing)

    def _not_reached(
        self,
        why: str,
        views: Sequence[PartitionView],
        missing: Mapping[TopicPartition, int] | None = None,
    ) -> NotReached:
        texts = [_text(*each) for each in (missing or {}).items()]
        return NotReached(why, reached=self._token(views).text(), missing=texts)

    def _token(self, views: Sequence[Standing]) -> Token:
        position, seen = Position(), NOTHING_SEEN
        for view in views:
            position, seen = position.merge(view.position), seen.merge(view.seen)
        return Token.of(position, self._inquiry.catalog, seen)

    def problem(self, error: Exception, views: Sequence[PartitionView]) -> Problem:
        """What tells a client that its wait failed, and how far these partitions are."""
        if isinstance(error, TableError):
            return problem_of(error, self._token(views).text())
        return problem_of(error)

    # --- whether a token is true

    def note(self, position: Position) -> None:
        """Take in what was committed from here: of that the log need not be asked."""
        self._inquiry.note(position)

    async def vouched(self, asked: Asked) -> tuple[Asked, Seen]:
        """What a request brings along, and the part of it that the log bears out, for stamps.

        The part is flagged as cut where something is left out. A cookie that leads nowhere is left
        out of both. Raises: ForeignToken, UntrueToken, TooManyWaiters.
        """
        if asked.token is None:
            return asked, NOTHING_SEEN
        try:
            with Patience(self.room, max(asked.wait_s, _LAST_LOOK_S)) as patience:
                claims = await self._claims(asked.token, patience)
                doubt = self._doubt([c for c in claims if not self._is_borne_out(c, ())], patience)
                if doubt is not None:
                    await patience.until_answered(doubt.answer)
                    doubt.check()
        except PositionError:
            if not asked.is_cookie:
                raise
            return asked.without_cookie(), NOTHING_SEEN
        known = {c.print_: c.offset_next for c in claims if self._is_borne_out(c, ())}
        return asked, Seen(known, is_cut=asked.token.seen.is_cut or len(known) < len(asked.token.seen))

    async def _claims(self, token: Token, patience: Patience) -> Sequence[Claim]:
        """What a token says of topics that are known. Raises: ForeignToken, UntrueToken."""
        token.check_cluster(self._inquiry.catalog)
        if self._inquiry.wants_listing(token.seen):
            # Whether or not it comes in time: topics that nobody knows stay unproven.
            await patience.until_answered(self._inquiry.listing())
        catalog = self._inquiry.catalog
        claims = [
            Claim(catalog.print_of(place), place, offset) for place, offset in token.located(catalog).items()
        ]
        for claim in claims:
            if not self._inquiry.exists(claim.place):
                raise _untrue(claim.place, claim.offset_next)
        return claims

    def _is_borne_out(self, claim: Claim, views: Collection[PartitionView]) -> bool:
        """Whether it is known here that the log reaches so far."""
        print_, place, offset = claim
        if self._inquiry.has_reached(place, offset):
            return True
        for view in views:
            if max(view.position.get(place, 0), view.input_ends.get(place, 0)) >= offset:
                return True
        return bool(views) and all(view.seen.get(print_, 0) >= offset for view in views)

    def _doubt(self, claims: Sequence[Claim], patience: Patience) -> "_Doubt | None":
        """Ask the log for these claims, if there are any; an untrue one ends the waiting."""
        if not claims:
            return None
        doubt = _Doubt(claims, self._inquiry.ranges([claim.place for claim in claims]), patience)
        doubt.answer.add_done_callback(doubt.answered)
        return doubt

    # --- what the answer says

    def headers(self, asked: Asked, views: Sequence[Standing]) -> list[RawHeader]:
        """What an answer from these partitions, as they are now, says of what was asked."""
        unproven = self.unproven(asked.demanded, views) if asked.demanded is not None else ()
        return self.stated(asked, unproven, self._token(views) if asked.sets_cookie else None)

    def stated(self, asked: Asked, unproven: Sequence[str], token: Token | None) -> list[RawHeader]:
        """What an answer that contains this token says: what was waited, what is unproven, a cookie."""
        found: list[RawHeader] = []
        if asked.preferred_s is not None and asked.may_wait:
            found.append((b"preference-applied", b"wait=%b" % f"{asked.preferred_s:g}".encode()))
        if unproven:
            found.append((b"headrace-unproven", ", ".join(unproven).encode()))
        cookie = asked.cookie(token) if asked.sets_cookie and token is not None else None
        if cookie is not None:
            found.append(cookie)
        return found

    def unproven(self, token: Token, views: Sequence[Standing]) -> Sequence[str]:
        """What of a token neither the inputs of these partitions prove nor the stamps of their events.

        Shape: `topic/partition@offset`; in hex where the topic's name is not known; `cut` where
        there is more than is said.
        """
        inputs = {place.topic for view in views for place in view.position}
        found: list[str] = []
        for print_, offset in token.seen.items():
            place = self._inquiry.catalog.place_of(print_)
            if offset == 0 or (place is not None and place.topic in inputs):
                # Of another partition of an input the row contains nothing.
                continue
            if not all(view.seen.get(print_, 0) >= offset for view in views):
                shown = place or TopicPartition(print_[:TOPIC_BYTES].hex(), partition_of(print_))
                found.append(_text(shown, offset))
        if token.seen.is_cut or len(found) > _UNPROVEN_MAX:
            return [*found[:_UNPROVEN_MAX], _CUT]
        return found


class _Doubt:
    """Claims that nothing here bears out, while the log is asked for them."""

    def __init__(self, claims: Sequence[Claim], answer: "asyncio.Future[Ranges]", patience: Patience) -> None:
        self.claims = claims
        self.answer = answer
        self._patience = patience

    def answered(self, _: object) -> None:
        """End the waiting if one of them is untrue."""
        if (untrue := self._untrue()) is not None:
            self._patience.refuse(untrue)

    def check(self) -> None:
        """Raise UntrueToken if the log says that one of them is untrue."""
        if (untrue := self._untrue()) is not None:
            raise untrue

    def _untrue(self) -> UntrueToken | None:
        if not self.answer.done() or self.answer.cancelled() or self.answer.exception() is not None:
            return None
        ranges = self.answer.result()
        for _, place, offset in self.claims:
            if place not in ranges or ranges[place].end < offset:
                return _untrue(place, offset)
        return None


async def _until_contained(
    needed: Position, views: Sequence[PartitionView], patience: Patience
) -> Mapping[TopicPartition, int]:
    """What is missing when the time is over; empty: in this turn of the loop, nothing of any view.

    Raises: as `PartitionView.waiter`.
    """
    has_waited = True
    while has_waited:
        has_waited = False
        for view in views:
            while missing := view.lacking(needed):
                has_waited = True
                if not await patience.until(view.waiter(missing)):
                    return missing
    return {}


def _untrue(place: TopicPartition, offset: int) -> UntrueToken:
    return UntrueToken(f"this token names what is not in the log: {_text(place, offset)}")


def _text(place: TopicPartition, offset: int) -> str:
    return f"{place.topic}/{place.partition}@{offset}"

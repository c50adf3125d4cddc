"""How far loyalty has left the shared database: a row of that database, which changes between transactions.

Each service reads the stage in the transaction that it is for, so no transaction is of two stages, and no
service has to be stopped for a step.
"""

from enum import Enum

from headrace.bridge.session import Engine, Session


class Stage(Enum):
    """One step of the way; the order is that of the steps."""

    SHARED = "shared"
    """Services publish nothing, and write each other's tables: the picture that the talk began with."""
    BASKETS = "baskets"
    """Checkout publishes what it writes, and the baskets from before are published; otherwise as before.

    Redemptions come later, for each follows a basket: whoever reads a redemption must find that basket.
    """
    PUBLISHED = "published"
    """Promotions publishes, too; what is published is still marked as written to loyalty's tables."""
    APPLIED = "applied"
    """Services leave loyalty's tables alone: an applier writes them from the events that are not marked."""
    POSITIONED = "positioned"
    """The applier is behind the last marked event: its position is that of the rows, and reads tell it."""

    @property
    def updates(self) -> bool:
        """Whether checkout and promotions write loyalty's tables themselves."""
        return self in (Stage.SHARED, Stage.BASKETS, Stage.PUBLISHED)

    @property
    def publishes_baskets(self) -> bool:
        """Whether checkout publishes."""
        return self is not Stage.SHARED

    @property
    def publishes_redemptions(self) -> bool:
        """Whether promotions publishes."""
        return self not in (Stage.SHARED, Stage.BASKETS)

    @property
    def tells_positions(self) -> bool:
        """Whether a position is true of loyalty's rows."""
        return self is Stage.POSITIONED


async def stage_of(session: Session, engine: Engine) -> Stage:
    """The stage that the session's transaction is of: it does not change before that transaction ends."""
    # SQLite needs no lock: a writing transaction there is alone.
    lock = " FOR SHARE" if engine.name == "postgresql" else ""
    [(name,)] = await session.fetch(f"SELECT name FROM stage{lock}")
    return Stage(name)


async def move_to(stage: Stage, engine: Engine) -> None:
    """Take the step when the transactions of the stage before have ended; later ones wait meanwhile."""
    session = await engine.connect(purpose="migration")
    try:
        if engine.name == "postgresql":
            # Row locks alone would let one sharing transaction after the other pass in front of the step.
            await session.execute("LOCK TABLE stage IN EXCLUSIVE MODE")
        await session.execute("UPDATE stage SET name = %s", (stage.value,))
        await session.commit()
    finally:
        await session.close()

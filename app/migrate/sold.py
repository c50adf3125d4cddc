"""How much was sold to each household so far: whoever posts a basket has counted it before."""

from collections.abc import Iterable


class Sold:
    """Baskets and redemptions by household; one thread counts those of a household."""

    def __init__(self, households: Iterable[int]) -> None:
        self.baskets = dict.fromkeys(households, 0)
        self.redemptions = dict.fromkeys(self.baskets, 0)

"""The root of the tree, and what is wrong before anything runs."""

from typing import ClassVar


class HeadraceError(Exception):
    """What happened, where, and what to do next."""

    hint: ClassVar[str] = ""
    """What to do next, unless the raiser knows better."""
    is_recoverable: ClassVar[bool] = False
    """Whether taking the task over again, from store and changelog, can cure it."""

    def __init__(
        self,
        what: str,
        *,
        hint: str | None = None,
        topic: str | None = None,
        partition: int | None = None,
        offset: int | None = None,
    ) -> None:
        self.what = what
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.next_step = self.hint if hint is None else hint
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        places = {"topic": self.topic, "partition": self.partition, "offset": self.offset}
        where = ", ".join(f"{name} {value}" for name, value in places.items() if value is not None)
        sentence = f"{self.what} ({where})" if where else self.what
        return f"{sentence}. {self.next_step}" if self.next_step else sentence


class DeclarationError(HeadraceError):
    """The app is put together wrong."""

    hint = "Correct the declaration and start again."


class NotSupported(DeclarationError):
    """Faust has this, headrace does not support it yet."""

    hint = "See docs/from-faust.md for what to write instead."


class SettingsError(DeclarationError):
    """A setting is unknown, malformed, or contradicts another one."""

    hint = "`headrace config` shows every setting and where its value came from."

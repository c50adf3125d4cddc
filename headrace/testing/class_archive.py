"""The classes of a Java program as a JVM has loaded them, in a file: the next one starts in half the time."""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path


class ClassArchive:
    """The archive of the jars in one folder, for the `java` that is found (JEP 350).

    The first program that ends in order leaves it there. A JVM that cannot use it goes on without.
    """

    def __init__(self, lib: Path, maker: str) -> None:
        java = Path(shutil.which("java") or "java").resolve()
        made = java.stat().st_mtime_ns if java.exists() else 0
        name = hashlib.sha256(f"{java} {made}".encode()).hexdigest()[:12]
        self._lib = lib
        self._kept = lib / f"classes-{name}.jsa"
        self._fresh = lib / f".classes-{name}-{maker}.jsa"

    def used(self) -> Sequence[str]:
        """What tells a JVM to use the archive; nothing where there is none."""
        if not self._kept.exists():
            return ()
        return (f"-XX:SharedArchiveFile={self._kept}", "-Xshare:auto", "-Xlog:disable")

    def used_or_made(self) -> Sequence[str]:
        """What tells a JVM to use the archive, or to make it where there is none."""
        if self._kept.exists() or not os.access(self._lib, os.W_OK):
            return self.used()
        return (f"-XX:ArchiveClassesAtExit={self._fresh}", "-Xlog:disable")

    def keep(self) -> None:
        """Keep what a JVM has made that has ended in order."""
        if self._fresh.exists():
            self._fresh.replace(self._kept)

    def forget(self) -> None:
        """Drop what a JVM has begun that was killed."""
        self._fresh.unlink(missing_ok=True)

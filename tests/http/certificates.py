"""Certificates as somebody who runs workers makes them, by openssl."""

import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """A certificate and its key."""

    cert_file: str
    key_file: str


class Authority:
    """Somebody who signs certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._own = self._files(name)
        _openssl(
            "req", "-x509", *_NEW_KEY, "-subj", f"/CN={name}", "-days", "2",
            "-keyout", self._own.key_file, "-out", self._own.cert_file,
        )  # fmt: skip

    @property
    def ca_file(self) -> str:
        """What those who trust it have."""
        return self._own.cert_file

    def certificate(self, name: str, *alternatives: str) -> Certificate:
        """A certificate for a worker, for these names such as `IP:127.0.0.1`."""
        found = self._files(name)
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(alternatives)}\n")
        _openssl("req", "-new", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", found.key_file, "-out", request)
        _openssl(
            "x509", "-req", "-in", request, "-CA", self._own.cert_file, "-CAkey", self._own.key_file,
            "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", found.cert_file,
        )  # fmt: skip
        return found

    def _files(self, name: str) -> Certificate:
        return Certificate(str(self._folder / f"{name}.pem"), str(self._folder / f"{name}.key"))


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

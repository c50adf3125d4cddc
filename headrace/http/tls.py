"""TLS of the HTTP server, and of the way to other workers; both show the worker's own certificate."""

import ssl

from headrace.errors import SettingsError
from headrace.settings import Settings


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """How the server encrypts; None without a certificate. Raises: SettingsError.

    Clients of the app have no certificates. One that shows one must have it from who signs the workers'.
    """
    if not settings.http_tls_cert_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_own(context, settings)
    if settings.peer_ca_file:
        _load_ca(context, settings)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def peer_context(settings: Settings) -> ssl.SSLContext | None:
    """How other workers are asked; None where they speak plain HTTP, as this one does. Raises: as above."""
    if not settings.http_tls_cert_file:
        return None
    if not settings.peer_ca_file:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load_ca(context, settings)
    _load_own(context, settings)
    return context


def _load_own(context: ssl.SSLContext, settings: Settings) -> None:
    try:
        context.load_cert_chain(
            settings.http_tls_cert_file, settings.http_tls_key_file, settings.http_tls_key_password
        )
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"http_tls_cert_file or http_tls_key_file cannot be used: {error}") from error


def _load_ca(context: ssl.SSLContext, settings: Settings) -> None:
    try:
        context.load_verify_locations(settings.peer_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"peer_ca_file cannot be used: {error}") from error

"""How connections are encrypted and authenticated, in the words that aiokafka takes."""

import ssl
from collections.abc import Mapping
from typing import Any

from headrace.errors import SettingsError
from headrace.settings import Settings


def connection_security(settings: Settings) -> Mapping[str, Any]:
    """Keyword arguments for an aiokafka connection, client or consumer; reads the certificate files.

    Raises: SettingsError when a file is missing or malformed, or a mechanism lacks its user.
    """
    options: dict[str, Any] = {}
    protocol = "SSL" if settings.kafka_tls else "PLAINTEXT"
    if settings.kafka_sasl:
        if not settings.kafka_username:
            raise SettingsError(f"{settings.kafka_sasl} needs HEADRACE_KAFKA_USERNAME and _PASSWORD")
        protocol = f"SASL_{protocol}"
        options["sasl_mechanism"] = settings.kafka_sasl
        options["sasl_plain_username"] = settings.kafka_username
        options["sasl_plain_password"] = settings.kafka_password
    if settings.kafka_tls:
        options["ssl_context"] = _tls_context(settings)
    options["security_protocol"] = protocol
    return options


def _tls_context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ca_file or None)
        if settings.kafka_cert_file:
            context.load_cert_chain(
                settings.kafka_cert_file,
                settings.kafka_key_file or None,
                settings.kafka_key_password or None,
            )
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"the TLS files of the Kafka connection cannot be used: {error}") from error
    return context

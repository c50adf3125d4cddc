"""The log that the settings name."""

from headrace.errors import SettingsError
from headrace.log.embedded.log import EmbeddedLog
from headrace.log.port import Log
from headrace.log.simulated.log import SimulatedLog
from headrace.settings import Settings
from headrace.vitals import Vitals

SCHEMES = ("embedded://path/to/log.db", "kafka://host:9092[,host:9092]", "simulated://")


def connect(settings: Settings, vitals: Vitals | None = None) -> Log:
    """The log at the address `settings.log`, not yet opened. Raises: SettingsError.

    Its parts show in `vitals` that they are alive.
    """
    vitals = vitals or Vitals()
    scheme, separator, address = settings.log.partition("://")
    match scheme if separator else "":
        case "embedded" if address:
            return EmbeddedLog(address, vitals=vitals)
        case "kafka" if address:
            # Loaded only where it is asked for: the embedded log has no use for a Kafka client.
            from headrace.log.kafka.log import KafkaLog

            return KafkaLog(settings, address=address, vitals=vitals)
        case "simulated" if not address:
            return SimulatedLog()
        case _:
            raise SettingsError(
                f"{settings.log!r} is not the address of a log",
                hint=f"Write one of {', '.join(SCHEMES)} into HEADRACE_LOG.",
            )

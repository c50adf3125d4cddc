"""How a cluster tells which transactions it has agreed to speak."""

import struct
from io import BytesIO

import pytest

from headrace.log.kafka.transactions import FeaturesRequest, Scheme, scheme_of

FINALIZED_FEATURES = 2


def told(**levels: int) -> Scheme:
    """What follows from an answer with these features."""
    listed = bytes([len(levels) + 1])
    for name, level in levels.items():
        text = name.replace("_", ".").encode()
        listed += bytes([len(text) + 1]) + text + struct.pack(">hhB", level, 0, 0)
    tags = bytes([1, FINALIZED_FEATURES, len(listed)]) + listed
    answer = struct.pack(">hB", 0, 1) + struct.pack(">i", 0) + (tags if levels else b"\0")
    response = FeaturesRequest().build(FeaturesRequest._CLASSES[0]).RESPONSE_TYPE
    return scheme_of(response.decode(BytesIO(answer)))


@pytest.mark.parametrize(
    ("level", "scheme"),
    [
        (0, Scheme.EPOCH_PER_OWNER),
        (1, Scheme.EPOCH_PER_OWNER),
        (2, Scheme.EPOCH_PER_TRANSACTION),
        (3, Scheme.EPOCH_PER_TRANSACTION),
    ],
)
def test_every_transaction_has_an_epoch_from_version_two_on(level: int, scheme: Scheme) -> None:
    assert told(group_version=1, transaction_version=level) is scheme


def test_a_cluster_that_tells_of_no_features_is_an_older_one() -> None:
    assert told() is Scheme.EPOCH_PER_OWNER
    assert told(metadata_version=20) is Scheme.EPOCH_PER_OWNER

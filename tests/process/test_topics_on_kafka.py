"""Topics of a real broker that were trimmed or recreated under an app's tables are named, never read on."""

from pathlib import Path

import pytest
from aiokafka import TopicPartition as Place
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from headrace import errors
from headrace.log.kafka.log import KafkaLog
from headrace.log.port import Append
from headrace.settings import Settings
from headrace.testing.kafka_broker import KafkaBroker
from tests.flow.shop import by_key, fold, open_shop, purchases
from tests.service import quick, running


@pytest.mark.kafka
async def test_trimmed_and_recreated_topics_are_refused_by_name(
    own_broker: KafkaBroker, tmp_path: Path
) -> None:
    shop, events = open_shop(partitions=1), purchases(30)
    files = quick(store="rocksdb", data=str(tmp_path), instance="one", log=f"kafka://{own_broker.address}")

    def log() -> KafkaLog:
        return KafkaLog(Settings(log=files.log), address=own_broker.address)

    admin = AIOKafkaAdminClient(bootstrap_servers=own_broker.address)
    await admin.start()
    async with running(shop.app, log=log(), settings=files) as service:
        await service.send_all(shop.buys, by_key(events))
        await service.until_applied()
        assert service.table("balances").rows() == fold(events)
    elsewhere = log()
    await elsewhere.open()
    writer = await elsewhere.writer("elsewhere")
    offsets = await writer.commit([Append("buys", 0, [(b"1", b"{}", (), 0)] * 3)])
    await writer.close()
    await elsewhere.close()
    await admin.delete_records({Place("buys", 0): RecordsToDelete(before_offset=max(offsets.values()))})
    with pytest.raises(errors.OffsetOutOfRange, match=r"the tables stand at offset.*topic buys, partition 0"):
        async with running(shop.app, log=log(), settings=files):
            pass
    await admin.delete_topics(["buys"])
    with pytest.raises(errors.TopicMismatch, match=r"this input was recreated.*topic buys, partition 0"):
        async with running(shop.app, log=log(), settings=files):
            pass
    await admin.delete_topics(["shop.main.changelog"])
    with pytest.raises(errors.TopicMismatch, match=r"the changelog was recreated.*shop.main.changelog"):
        async with running(shop.app, log=log(), settings=files):
            pass
    await admin.close()

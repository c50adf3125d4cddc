"""Several workers in one harness: any of them answers for every key, whatever happens to the others."""

import pytest

from headrace import Settings
from headrace.testing import Crash, Join, Leave, harness
from tests.testing.till import Bought, open_till

WHO = range(40)
SETTINGS = [Settings(), Settings(peer_secret=("what the workers share",))]


@pytest.mark.parametrize("settings", SETTINGS)
async def test_every_worker_reads_every_row_and_scans_all_of_them(settings: Settings) -> None:
    till = open_till()
    async with harness(till.app, workers=3, key="who", settings=settings) as h:
        await h.run([Bought(who, 100 + who) for who in WHO])
        assert sum(bool(worker.views()) for worker in h.workers) == 2
        for number in range(3):
            http = h.http_of(number)
            for who in WHO:
                assert (await http.get(f"/balances/{who}")).json() == {"cents": 100 + who, "visits": 1}
            assert (await http.get("/balances/99")).status_code == 404
            page = (await http.get("/balances")).json()
            assert [row["key"] for row in page["rows"]] == list(WHO)


async def test_rows_are_found_again_after_workers_come_go_and_crash() -> None:
    till = open_till()
    async with harness(till.app, workers=2, key="who") as h:
        await h.run([Bought(who, 1) for who in WHO])
        http = h.http
        for visits, disturbance in enumerate((Crash(worker=1), Join(), Leave(worker=1), Crash(worker=1)), 2):
            await h.run([disturbance, *(Bought(who, 1) for who in WHO)])
            rows = (await http.get("/balances")).json()["rows"]
            assert [(row["key"], row["value"]["visits"]) for row in rows] == [(who, visits) for who in WHO]
            answers = [await http.get(f"/balances/{who}") for who in WHO]
            assert {answer.json()["visits"] for answer in answers} == {visits}

"""Who owns which task, as the leader of the group decides it."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.log.assignor import Claim, Shares, assign, owners

TOPIC = "shop.main.changelog"


def claims_after(shares: Shares, *, generation: int, count: int) -> dict[str, Claim]:
    return {
        member: Claim(partitions={TOPIC: count}, generation=generation, owned=share)
        for member, share in shares.items()
    }


def newcomer(count: int, held: list[int] | None = None) -> Claim:
    return Claim(partitions={TOPIC: count}, held={TOPIC: dict.fromkeys(held or [], 0)})


@given(members=st.integers(1, 6), count=st.integers(1, 20))
def test_every_partition_has_one_owner_and_shares_differ_by_one_at_most(members: int, count: int) -> None:
    shares = assign({f"m{number}": newcomer(count) for number in range(members)})
    owned = sorted(partition for share in shares.values() for partition in share.get(TOPIC, []))
    assert owned == list(range(count))
    sizes = [len(share.get(TOPIC, [])) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1


@given(members=st.integers(2, 6), count=st.integers(1, 20))
def test_when_a_member_dies_the_others_keep_what_they_run(members: int, count: int) -> None:
    before = assign({f"m{number}": newcomer(count) for number in range(members)})
    claims = claims_after(before, generation=1, count=count)
    del claims["m0"]
    after = assign(claims)
    for member in claims:
        assert set(before[member].get(TOPIC, [])) <= set(after[member].get(TOPIC, []))


def test_a_member_that_comes_back_gets_what_it_has_on_disk() -> None:
    claims = claims_after({"a": {TOPIC: [0, 1, 2, 3]}}, generation=3, count=4)
    claims["b"] = newcomer(4, held=[0, 1])
    assert assign(claims) == {"a": {TOPIC: [2, 3]}, "b": {TOPIC: [0, 1]}}


def test_of_two_members_that_say_they_own_a_partition_the_newer_generation_is_right() -> None:
    claims = {
        "stale": Claim(partitions={TOPIC: 2}, generation=1, owned={TOPIC: [0]}),
        "fresh": Claim(partitions={TOPIC: 2}, generation=5, owned={TOPIC: [0]}),
    }
    assert assign(claims) == {"fresh": {TOPIC: [0]}, "stale": {TOPIC: [1]}}


def test_the_odd_partitions_of_several_groups_do_not_all_go_to_one_member() -> None:
    groups = {"a": 1, "b": 1, "c": 1, "d": 1}
    shares = assign({name: Claim(partitions=groups) for name in ("m1", "m2")})
    assert sorted(len(share) for share in shares.values()) == [2, 2]


def test_of_two_that_hold_a_store_the_one_that_wrote_last_gets_it() -> None:
    stale = Claim(partitions={TOPIC: 2}, held={TOPIC: {0: 5_000, 1: 100}})
    fresh = Claim(partitions={TOPIC: 2}, held={TOPIC: {0: 4_000, 1: 9_000}})
    assert assign({"a": stale, "b": fresh}) == {"a": {TOPIC: [0]}, "b": {TOPIC: [1]}}
    assert assign({"b": stale, "a": fresh}) == {"b": {TOPIC: [0]}, "a": {TOPIC: [1]}}


def test_everybody_is_told_who_owns_what_by_the_name_of_the_worker() -> None:
    claims = {f"id-{name}": Claim(partitions={TOPIC: 3}, instance=name) for name in ("w1", "w2")}
    assert owners(claims, assign(claims)) == {TOPIC: {0: "w1", 1: "w1", 2: "w2"}}

"""Positions are a lattice, and a token says only what its own cluster can judge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ForeignToken, MalformedToken
from headrace.events.position import Catalog, Position, TopicPartition
from headrace.events.token import Token

CATALOG = Catalog("cluster", {"a": "id of a", "b": "id of b"})
places = st.builds(TopicPartition, st.sampled_from(["a", "b"]), st.integers(0, 3))
positions = st.dictionaries(places, st.integers(0, 2**40)).map(Position)


@given(positions, positions, positions)
def test_merge_is_the_least_position_that_covers_both(one: Position, two: Position, other: Position) -> None:
    both = one.merge(two)
    assert both.covers(one)
    assert both.covers(two)
    assert other.covers(both) == (other.covers(one) and other.covers(two))


@given(positions, positions, positions)
def test_merge_is_commutative_associative_and_idempotent(
    one: Position, two: Position, three: Position
) -> None:
    assert one.merge(two) == two.merge(one)
    assert one.merge(two).merge(three) == one.merge(two.merge(three))
    assert one.merge(one) == one


@given(positions, positions, positions)
def test_covers_is_an_order(one: Position, two: Position, three: Position) -> None:
    assert one.covers(one)
    assert not (one.covers(two) and two.covers(three)) or one.covers(three)
    assert one.covers(Position())


@given(positions)
def test_a_token_comes_back_from_its_text(position: Position) -> None:
    token = Token.of(position, CATALOG)
    text = token.text()
    assert Token.parse(text) == token
    assert Token.parse(text).located(CATALOG) == position
    assert text.replace("-", "").replace("_", "").isalnum()


@given(st.one_of(st.text(), st.binary().map(lambda raw: "AQ" + raw.hex())))
def test_what_is_no_token_is_malformed_and_nothing_else(text: str) -> None:
    with pytest.raises(MalformedToken):
        Token.parse(text)


@given(positions, st.data())
def test_a_token_that_was_cut_is_malformed(position: Position, data: st.DataObject) -> None:
    text = Token.of(position, CATALOG).text()
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(MalformedToken):
        Token.parse(text[:cut])


def test_a_token_of_another_cluster_or_of_a_recreated_topic_is_foreign() -> None:
    token = Token.of(Position({TopicPartition("a", 0): 5}), CATALOG)
    with pytest.raises(ForeignToken, match="another cluster"):
        token.located(Catalog("elsewhere", CATALOG.topic_ids))
    recreated = Catalog("cluster", {"a": "a new id of a"})
    with pytest.raises(ForeignToken, match="recreated"):
        token.located(recreated)
    with pytest.raises(ForeignToken, match="recreated"):
        Token.of(Position({TopicPartition("a", 0): 9}), recreated).covers(token)
    assert token.located(Catalog("cluster", {})) == Position()

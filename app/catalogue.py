"""The product catalogue: which department a product belongs to.

It is reference data that changes with a release, not a stream of facts: 92,331 products that no event
of the year touches. So loyalty reads it from its file when it starts and keeps it in memory. The tills
send product ids only: how the chain files a product is not theirs to say, and a service that cares for
something else than departments need not carry them.
"""

from collections.abc import Mapping
from functools import cache

from app.grocery import parquet

UNKNOWN = "UNKNOWN"
"""Department of the products that the catalogue does not know."""


@cache
def departments() -> Mapping[int, str]:
    """Product id to department, read once per process."""
    table = parquet("products", ["product_id", "department"])
    # As a dictionary column each department is one string, shared by all its products.
    names = table["department"].combine_chunks().dictionary_encode()
    by_code = names.dictionary.to_pylist()
    return dict(
        zip(
            table["product_id"].to_pylist(),
            [by_code[code] for code in names.indices.to_pylist()],
            strict=True,
        )
    )

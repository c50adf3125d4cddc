"""The shop repaired: the same service, the same agent."""

from tests.process.apps.shop import declare

app = declare(is_fixed=True)

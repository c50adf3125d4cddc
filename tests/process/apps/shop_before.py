"""The shop as it was."""

from tests.process.apps.shop import declare

app = declare(is_fixed=False)

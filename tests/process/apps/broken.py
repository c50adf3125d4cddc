"""A service whose agents cannot be imported."""

import headrace

app = headrace.App("broken", autodiscover=["tests.process.apps.absent"])

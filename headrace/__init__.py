"""headrace: business events folded into local tables, exactly once, served over HTTP."""

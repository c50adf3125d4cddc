"""How a shared database is left, one step at a time: it lives on the same events until nobody needs it."""

"""Numbers, each printed with the command that made it. Never asserted in tests."""

"""Base of everything: records, errors, stated precision."""

"""Recordings of other implementations against this one."""

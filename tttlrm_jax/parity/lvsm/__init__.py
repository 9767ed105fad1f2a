"""Recordings of LaCT's view synthesis."""

"""Recordings of tttLRM."""

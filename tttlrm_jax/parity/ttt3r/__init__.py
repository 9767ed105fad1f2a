"""Recordings of TTT3R."""

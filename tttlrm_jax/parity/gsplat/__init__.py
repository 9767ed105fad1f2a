"""Recordings of gsplat."""

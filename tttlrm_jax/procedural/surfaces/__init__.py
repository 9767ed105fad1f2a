"""Triangles: solids, their rendering, Wavefront files."""

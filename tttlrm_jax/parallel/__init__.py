"""Devices: the table of axes, meshes, processes."""

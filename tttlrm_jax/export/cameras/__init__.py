"""Cameras as files that other programs train on and look at; see `formats`."""

"""Cameras of pictures that have none."""

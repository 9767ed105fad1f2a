"""Meshes of procedural objects against the exact ones; `python -m experiments.meshes`."""

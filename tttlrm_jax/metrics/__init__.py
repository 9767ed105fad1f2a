"""Scores of pictures, trajectories, depth and points."""

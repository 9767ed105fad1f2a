"""Models that COLMAP writes: cameras, poses, triangulated points."""

"""Poses, rotations, rays, alignment, camera paths, spherical harmonics."""

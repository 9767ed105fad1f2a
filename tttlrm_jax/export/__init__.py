"""Reconstructions as files: PLY, `.splat`, video, comparison sheet, HTML report."""

from tttlrm_jax.export.ply import read_ply, write_ply
from tttlrm_jax.export.splat import encode_splat, write_splat
from tttlrm_jax.export.video import write_video
from tttlrm_jax.export.writable import ExportCount

__all__ = ["ExportCount", "encode_splat", "read_ply", "write_ply", "write_splat", "write_video"]

"""Reconstructions as files: PLY, `.splat`, video, comparison sheet, HTML report."""

from tttlrm_jax.export.camera_plot import NamedCamera, camera_plot
from tttlrm_jax.export.comparison import ComparedView, comparison_sheet, write_comparison
from tttlrm_jax.export.ply import read_ply, write_ply
from tttlrm_jax.export.report import Report, StreamExhibit, report_html, write_report
from tttlrm_jax.export.splat import encode_splat, write_splat
from tttlrm_jax.export.video import write_video
from tttlrm_jax.export.writable import ExportCount

__all__ = [
    "ComparedView",
    "ExportCount",
    "NamedCamera",
    "Report",
    "StreamExhibit",
    "camera_plot",
    "comparison_sheet",
    "encode_splat",
    "read_ply",
    "report_html",
    "write_comparison",
    "write_ply",
    "write_report",
    "write_splat",
    "write_video",
]

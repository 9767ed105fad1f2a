"""Scores of rendered views: image metrics, trivial baselines, the evaluation of one scene."""

from tttlrm_jax.evaluation.metrics import psnr, ssim

__all__ = ["psnr", "ssim"]

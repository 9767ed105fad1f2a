"""Tensors in files of PyTorch and in safetensors files."""

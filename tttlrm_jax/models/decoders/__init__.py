"""Tokens to what is rendered, one file each."""

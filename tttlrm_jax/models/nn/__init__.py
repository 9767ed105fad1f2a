"""Thin modules that models are made of."""

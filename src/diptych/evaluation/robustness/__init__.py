"""Robustness: corruptions, distribution shifts, effective robustness."""

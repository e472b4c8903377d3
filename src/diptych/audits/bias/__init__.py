"""Bias audit: attributes of people read out of their pictures."""

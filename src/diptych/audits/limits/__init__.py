"""Limits of the encoders, measured on generated and annotated pictures."""

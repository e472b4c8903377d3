"""Evaluation protocols of the encoders as they are: zero-shot classification, retrieval, captions."""

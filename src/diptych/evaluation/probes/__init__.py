"""Evaluation of image features by training on them: linear probe, few-shot, nearest neighbours."""

"""Pretrained image towers without a text tower, to start training from."""

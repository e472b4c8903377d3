"""The training loop: trainer, trainable model, optimiser, meters, loggers."""

"""The training loop: trainer, learner, optimiser, meters, loggers."""

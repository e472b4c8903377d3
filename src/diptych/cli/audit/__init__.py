"""Commands that measure the fairness and the limits of a model."""

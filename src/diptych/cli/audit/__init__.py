"""Commands that measure how fair and how limited a model is."""

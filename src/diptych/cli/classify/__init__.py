"""The commands `classify` and `demo`."""

"""The command `diptych train`."""

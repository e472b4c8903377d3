"""Several processes and accelerators: process groups, sharding, memory planning, watchdog."""

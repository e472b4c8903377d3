"""Devices and processes: process groups, sharding, memory planning, watchdog."""

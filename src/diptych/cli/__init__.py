"""The command line: one subcommand, one file. Parses, calls a room below, prints; computes nothing itself.

Heavy imports stand inside the commands, so that `diptych --help` answers at once.
"""

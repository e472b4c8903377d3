"""The command line, one file per subcommand: parse arguments, call the package, print the result.

Heavy imports are inside the commands, so that `diptych --help` is fast.
"""

"""OpenAI's TorchScript archives and pickled checkpoints, read as data without executing anything."""

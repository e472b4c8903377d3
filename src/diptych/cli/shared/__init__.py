"""What several commands share: options, console output, labels, limits."""

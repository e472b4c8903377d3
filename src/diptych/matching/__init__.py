"""Whether two pictures are copies of each other: hashes, local features, aligned parts, pixels."""

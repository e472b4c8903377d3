"""The map of a collection: layout, clusters and their names."""

"""Search: parsing queries, ranking pictures, heat maps."""

"""Search: queries, answers, relevance, heat maps."""

"""Association tests between groups of people and words."""

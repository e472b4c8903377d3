"""Duplicates: pairs are proposed, verified, grouped, and moved to the trash and back."""

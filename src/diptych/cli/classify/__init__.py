"""Commands that classify: classify, demo."""

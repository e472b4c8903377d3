"""Statistics on arrays: metrics, rankings, confidence intervals, paired tests, differences between groups."""

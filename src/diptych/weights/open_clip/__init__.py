"""Models as open_clip keeps them: names, reading, writing."""

"""Find image files in folders and archives, with their captions and sidecars."""

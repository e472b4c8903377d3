"""Picture files in folders and archives, and the files that belong to them."""

"""Files of a collection: roots, listing, comparison with the catalogue, missing drives."""

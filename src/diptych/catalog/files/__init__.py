"""The files of a collection: roots, listing, comparison with what is known, missing drives."""

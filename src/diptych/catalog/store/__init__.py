"""The store that everything else of a catalogue reads: entries, filters, paths."""

"""Export, import, backup and relocation of a catalogue."""

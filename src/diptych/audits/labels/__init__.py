"""Design of label texts: classes, words, spelling, phrasings."""

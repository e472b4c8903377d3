"""A collection on disk that answers questions: pictures indexed once, then asked in words or pictures."""

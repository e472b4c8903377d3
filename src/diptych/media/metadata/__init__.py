"""Image metadata: EXIF, IPTC, XMP and sidecars; dates, positions, captions, keywords and ratings."""

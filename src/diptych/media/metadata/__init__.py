"""What a picture's file says about it: EXIF, IPTC, XMP, sidecars; dates, places, captions, keywords."""

"""Copy detection for two pictures: perceptual hashes, visual words, template matching, pixel comparison."""

"""Two encoders, one space: the networks of CLIP. Torch, and nothing of files, texts or pictures."""

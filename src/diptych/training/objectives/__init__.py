"""Training objectives: contrastive, captioning, prediction; and how encoders are tuned."""

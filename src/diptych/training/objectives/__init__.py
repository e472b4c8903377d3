"""Training objectives (contrastive, captioning, prediction) and fine-tuning methods."""

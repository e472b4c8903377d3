"""Text encoders: CLIP's causal transformer, XLM-RoBERTa, prefix trees, and the caption decoder."""

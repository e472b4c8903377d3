"""Text encoders: the causal transformer of CLIP, XLM-RoBERTa, prefix trees, and the caption decoder."""

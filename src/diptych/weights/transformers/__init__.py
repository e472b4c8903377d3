"""Models as Hugging Face transformers keeps them: names, reading, writing."""

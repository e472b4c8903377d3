"""Networks of CLIP in torch: image and text encoders with a shared embedding space."""

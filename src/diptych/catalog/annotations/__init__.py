"""Tags, ratings and metadata of images, and how they survive changes of the files."""

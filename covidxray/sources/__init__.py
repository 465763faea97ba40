"""One reader per source of images."""

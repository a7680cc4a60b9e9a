"""SAM 3 image segmentation: an image and a prompt in, masks out."""

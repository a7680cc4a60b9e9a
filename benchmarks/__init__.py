"""The plain transformers + Pillow pipeline and this one, side by side: `script/bench`."""

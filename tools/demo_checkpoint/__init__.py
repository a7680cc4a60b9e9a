"""How `weights/demo` was made: drawn scenes, losses, training and evaluation.

Nothing in `sam3_image/` imports this package.
"""

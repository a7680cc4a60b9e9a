"""Measurements on a GPU that is lent for minutes, on a machine without a package registry.

`python -m tools.gpu.pack FOLDER` makes a folder of wheels where there is a registry, and
`python -m tools.gpu.measure --wheels FOLDER --out OUT` installs them and measures where there is a
GPU. `--rehearse` goes the same way with the demo checkpoint on a CPU.
"""

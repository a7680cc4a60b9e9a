"""What `cog build` reads off `predict.py` without running it, and the OpenAPI document from it.

Cog's own generator is part of its build, which wants Docker. Here the same reading serves the
development server (`script/serve`) and the tests that hold the static rules.
"""

"""Long runs, the demo checkpoint's making and Cog's schema: not part of the package."""

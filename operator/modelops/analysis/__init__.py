"""Judge a canary against the concurrent stable version: windows and settings in, a verdict out."""

"""The six kinds as types: what users write, what the operator reports, and the names both share.

Import the module of a kind, never this package: programs that need only names stay small.
"""

"""How a command says no: one sentence to stderr, exit status 1."""


class Refused(Exception):
    """The command cannot be carried out; the message names object, wanted, found and what to do."""

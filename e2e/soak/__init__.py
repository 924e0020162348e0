"""Ten minutes of faults, drawn from a seed, under users and rollouts: ``make soak``.

* ``schedule``: which fault comes when
* ``verdict``: what became of each lost request, and what is stuck afterwards
* ``breakage``: what each fault does to a cluster
* ``people``: rollouts, actions, and a service that comes and goes
* ``__main__``: the run, its progress and its summary
"""

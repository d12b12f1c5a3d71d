"""The state machine over real servers: the run that is too long for every change.

`python -m tests.long --server minio --examples 30 --seed 1`. `links` is how a machine reaches the
archive and what befalls it on the way, `places` the archive's place for a whole run, `oracle` what
can be read of it, `archiving` the rules.
"""

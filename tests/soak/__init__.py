"""The soak: the real daemon at work for long, in bad weather, watched for what creeps.

`python -m tests.soak --minutes 30 --seed 1`. `works` are the sessions and `crew` the agents at
them, `weather` is what befalls requests, `subject` the daemon, `watch` takes samples of it.
`account` knows what was saved and said to be archived, `bucket` what is; `trend` judges what grew.
`course` lets all of it happen, `told` shows what came of it.
"""

"""What several commands need.

``options`` and ``output``: what is typed and what is printed, the same everywhere. ``config_file``, ``temporary``,
``signers``, ``keys``: config.json and what stands in it. ``programs``, ``location``, ``judging``: a program, as the
daemon would see it. ``offline``: the vault while no daemon runs.
"""

"""What the daemon remembers, and shares with the command line.

Files: the policy, the queue of what waits for approval, the builds that were seen. In the vault, among its own rows:
the seals of policy and settings, the uses of grants that end, the canaries.
"""

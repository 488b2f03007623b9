"""What the tests stand on: real daemons, real client programs, a home of their own, an unprivileged user.

Nothing here knows pytest; the benchmark uses the same rooms.
"""

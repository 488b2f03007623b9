"""The Secret Service of a desktop (freedesktop.org, Secret Service API 0.2) as a client sees it.

Whatever of this package keeps something there comes through here. (And what logind says of sleep and locked screens:
``logind``.) The only room that imports jeepney, and only when a
``Service`` is made.
"""

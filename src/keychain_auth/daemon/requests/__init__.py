"""The way of a request: ``gate`` lets a program in or not, ``pipeline`` makes an answer of each of its lines.

Bytes and connections are ``serving``, who is asking is ``attesting``.
"""

"""A FUSE filesystem of one program that shows each reader what it likes, or stops to answer. No library needed.

Usage: liar.py MOUNTPOINT EVIL TRUSTED

It shows one file, ``program``: the bytes of EVIL. After the line "lie" on stdin, whoever opens it anew gets those of
TRUSTED, past the page cache. After "hang" it answers nothing any more. It prints "mounted", and after the first line on
stdin "asked OPCODE" for each request.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys

HEADER = struct.Struct("=IIQQIIIHH")  # fuse_in_header of include/uapi/linux/fuse.h
LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, BATCH_FORGET = (
    1, 2, 3, 14, 15, 18, 25, 26, 27, 28, 29, 42,
)  # fmt: skip
ENOSYS, ENOENT = 38, 2
ROOT, PROGRAM = 1, 2
DIRECT_IO = 1


def mount(folder: str) -> int:
    ours, theirs = socket.socketpair()
    words = ["fusermount3", "-o", "ro,nodev,fsname=liar", "--", folder]
    number = theirs.fileno()
    subprocess.run(words, check=True, env={**os.environ, "_FUSE_COMMFD": str(number)}, pass_fds=[number])
    _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    return descriptors[0]


def attributes(node: int, size: int) -> bytes:
    mode, links = (0o40755, 2) if node == ROOT else (0o100755, 1)
    return struct.pack("=6Q10I", node, size, 8, 0, 0, 0, 0, 0, 0, mode, links, os.getuid(), os.getgid(), 0, 4096, 0)


class Liar:
    def __init__(self, evil: bytes, trusted: bytes) -> None:
        size = max(len(evil), len(trusted))
        self.contents = [evil.ljust(size, b"\0"), trusted]
        self.size = size
        self.lying = self.hanging = self.telling = False

    def answer(self, opcode: int, node: int, body: bytes) -> bytes | int | None:
        """Bytes, an error number, or None where no answer is due."""
        if opcode == INIT:
            return struct.pack("=4I2H2I2H8I", 7, 31, 1 << 17, 0, 12, 10, 1 << 17, 1, 32, 0, *[0] * 8)
        if opcode == LOOKUP:
            if body.rstrip(b"\0") != b"program":
                return ENOENT
            return struct.pack("=4Q2I", PROGRAM, 0, 3600, 3600, 0, 0) + attributes(PROGRAM, self.size)
        if opcode == GETATTR:
            return struct.pack("=Q2I", 3600, 0, 0) + attributes(node, self.size if node == PROGRAM else 0)
        if opcode in (OPEN, OPENDIR):
            lies = opcode == OPEN and self.lying
            return struct.pack("=Q2I", int(lies), DIRECT_IO if lies else 0, 0)
        if opcode == READ:
            handle, offset, length = struct.unpack_from("=QQI", body)
            content: bytes = self.contents[handle]
            return content[offset : offset + length]
        if opcode in (FLUSH, RELEASE, RELEASEDIR, READDIR):
            return b""
        return None if opcode in (FORGET, BATCH_FORGET) else ENOSYS

    def serve(self, device: int) -> None:
        while True:
            ready, _, _ = select.select([device, sys.stdin], [], [])
            if sys.stdin in ready:
                word = sys.stdin.readline().strip()
                if not word:
                    return
                self.telling = True
                self.lying, self.hanging = word == "lie", word == "hang"
                print("now", word, flush=True)
            if device in ready:
                try:
                    message = os.read(device, 1 << 18)
                except OSError:
                    return
                self.reply(device, message)

    def reply(self, device: int, message: bytes) -> None:
        _, opcode, unique, node, *_ = HEADER.unpack_from(message)
        if self.telling and opcode not in (FORGET, BATCH_FORGET, RELEASE, FLUSH):
            print("asked", opcode, flush=True)
        if self.hanging:
            return
        answer = self.answer(opcode, node, message[HEADER.size :])
        if answer is None:
            return
        error, body = (0, answer) if isinstance(answer, bytes) else (-answer, b"")
        os.write(device, struct.pack("=IiQ", 16 + len(body), error, unique) + body)


def main() -> None:
    folder, evil, trusted = sys.argv[1:]
    with open(evil, "rb") as one, open(trusted, "rb") as other:
        liar = Liar(one.read(), other.read())
    device = mount(folder)
    print("mounted", flush=True)
    liar.serve(device)


main()

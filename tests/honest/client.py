"""The same in Python: client.py SERVICE TARGET COUNT."""

import sys

from keychain_auth import KeychainAuthClient

granted = 0
for _ in range(int(sys.argv[3])):
    try:
        with KeychainAuthClient() as client:
            client.get(sys.argv[1], sys.argv[2])
            granted += 1
    except RuntimeError as error:
        print(error, flush=True)
print("granted", granted)

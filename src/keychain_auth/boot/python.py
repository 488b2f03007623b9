"""Runs before a launched Python script: gives it its name, and keeps imports to what was looked at.

The interpreter was started with -I and -S, so ``sys.path`` has the standard library only, and no ``.pth`` file, no
``sitecustomize`` and no cached bytecode of the user's has been read yet.

* Code below ``trees`` is compiled only if its bytes are those that were registered: the daemon says which these are,
  in what it has us run. To look at files alone would not do: a folder above them can be exchanged, and put back.
* Bytecode that lies beside it was not registered: none is read, and none is written.
* Nothing in a ``__pycache__`` below ``trees`` is imported as a module: what comes and goes there leaves no trace.
* What lies neither there, nor in the standard library, nor below a folder of ``imports`` (where only root writes), nor
  anywhere else that only root can write, is not imported at all.

It keeps an honest script from loading what somebody put in its way. It is no sandbox for the script itself.
"""

import _frozen_importlib_external as external
import binascii
import io
import os
import sys
import zipimport
import zlib

_shown = sys.excepthook


def _launch(stream, path, prefix, imports, trees):
    source = stream.read()
    stream.close()
    os.close(3)
    trees = {tree: _unpacked(packed) for tree, packed in trees.items()}
    _restrict(path, (*sys.path, *imports), trees)
    _let_only_registered_code_be_read(path, trees)
    _prepare_site(prefix, imports)
    main = sys.modules["__main__"].__dict__
    del main["f"]
    main.update(__file__=path, __loader__=external.SourceFileLoader("__main__", path))
    sys.argv[:] = sys.argv[1:]
    code = compile(source, path, "exec", dont_inherit=True)
    sys.excepthook = _excepthook(code)
    exec(code, main)


def _restrict(path, of_root, trees):
    """Let importlib ask before it takes source, or bytecode, from anywhere."""
    cached = external.cache_from_source
    sourceless = external.SourcelessFileLoader.get_code
    extension = external.ExtensionFileLoader.create_module

    def not_of_cache(file):
        if any(_inside(file, (tree,)) and "__pycache__" in file[len(tree) :].split("/") for tree in trees):
            raise ImportError(
                f"{file} lies in a __pycache__ folder, from where a launched script imports nothing; if it belongs to "
                f"{path}, move it to another folder, and then: keychain-auth upgrade {path}"
            )

    def is_verified(file):
        file = os.path.normpath(file)
        if _inside(file, trees):
            not_of_cache(file)
            return True
        if _inside(file, of_root) or (file.startswith("/") and _is_of_root(file)):
            return False
        folder = os.path.dirname(file)
        if os.path.basename(file).startswith("__init__."):
            folder = os.path.dirname(folder)
        raise ImportError(
            f"{file} lies outside of what was registered with {path}; if it belongs to it: "
            f"keychain-auth register --script {path} --tree {folder}"
        )

    def cache_from_source(file, *words, **names):
        if is_verified(file):
            raise NotImplementedError  # then importlib compiles the source, and writes nothing (SourceLoader.get_code)
        return cached(file, *words, **names)

    def get_code(self, name):
        is_verified(self.path)
        return sourceless(self, name)

    def create_module(self, spec):
        not_of_cache(os.path.normpath(self.path))
        return extension(self, spec)

    def of_archive(get):
        """Archives hold bytecode too, and have loaders of their own."""

        def get_verified(self, name):
            is_verified(self.archive)
            return get(self, name)

        return get_verified

    sys.pycache_prefix = None
    external.cache_from_source = cache_from_source
    external.SourcelessFileLoader.get_code = get_code
    external.ExtensionFileLoader.create_module = create_module
    for name in ("get_code", "load_module"):
        if hasattr(zipimport.zipimporter, name):
            setattr(zipimport.zipimporter, name, of_archive(getattr(zipimport.zipimporter, name)))


def _let_only_registered_code_be_read(path, trees):
    """Importlib, zipimport, site and runpy open code by ``io.open_code`` (PEP 578), and compile what it gives them.

    Python 3.7 and older have no such function: there only importlib's own loaders of files are held to it.
    """
    if not trees:
        return
    from hashlib import sha256  # from here on this could not be imported without itself

    plain = getattr(io, "open_code", io.FileIO)

    def open_code(file):
        name = os.path.normpath(file)
        if not _inside(name, trees):
            return plain(file)
        said = _registered(trees, name)
        if said.startswith("/") and _is_of_root(said):  # a link led there
            return plain(said)
        with plain(file) as stream:
            content = stream.read()
        if said != f"file {sha256(content).hexdigest()}":
            raise ImportError(
                f"{name} is not what was registered with {path}; if you changed it: keychain-auth upgrade {path}"
            )
        return io.BytesIO(content)

    def get_data(self, file):
        with open_code(file) as stream:
            return stream.read()

    sys.modules["_io"].open_code = io.open_code = open_code
    external.FileLoader.get_data = get_data  # bytecode is opened by another name in many versions


def _unpacked(packed):
    """What is in a tree, by relative name: ``file SHA256`` or ``link TARGET``."""
    words = zlib.decompress(binascii.a2b_base64(packed)).decode("utf-8", "surrogateescape").split("\0")
    return dict(zip(words[::2], words[1::2]))  # noqa: B905 - Python before 3.10 knows no strict


def _registered(trees, file):
    """What is to be at ``file``, by the listings alone; for a link out of the trees, the path to which it leads."""
    for _ in range(40):
        tree = next((tree for tree in trees if _inside(file, (tree,))), None)
        if tree is None:
            return file
        listing, parts = trees[tree], file[len(tree) :].split("/")[1:]
        for at in range(1, len(parts) + 1):
            said = listing.get("/".join(parts[:at]), "")
            if said.startswith("link "):
                folder = os.path.join(tree, *parts[: at - 1])
                file = os.path.normpath(os.path.join(folder, said[5:], *parts[at:]))
                break
        else:
            return listing.get("/".join(parts), "")
    return ""


def _inside(file, folders):
    return any(file == folder or file.startswith(folder + "/") for folder in folders)


def _is_of_root(file):
    """Can only root change or replace it?"""
    while True:
        about = os.stat(file, follow_symlinks=False)
        if about.st_uid != 0 or about.st_mode & 0o022:
            return False
        if file == "/":
            return True
        file = os.path.dirname(file)


def _prepare_site(prefix, imports):
    """What ``site.main`` does, for these folders and no others."""
    import site

    if prefix:
        sys.prefix = sys.exec_prefix = prefix
        sys.executable = prefix + "/bin/python"
        site.PREFIXES = [prefix]
    site.ENABLE_USER_SITE = False
    for folder in imports:
        site.addsitedir(folder)
    site.setquit()
    site.setcopyright()
    site.sethelper()
    site.execsitecustomize()


def _excepthook(code):
    """As without us: a traceback begins at the script."""

    def excepthook(kind, error, traceback):
        inner = traceback
        while inner is not None and inner.tb_frame.f_code is not code:
            inner = inner.tb_next
        _shown(kind, error.with_traceback(inner or traceback), inner or traceback)

    return excepthook

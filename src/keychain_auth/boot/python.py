"""Runs before a launched Python script: gives it its name, and keeps imports to what was looked at.

The interpreter was started with -I and -S, so ``sys.path`` has the standard library only, and no ``.pth`` file, no
``sitecustomize`` and no cached bytecode of the user's has been read yet.

* Source below ``trees`` was verified, but bytecode that lies beside it was not: none is read, and none is written.
* What lies neither there, nor in the standard library, nor below a folder of ``imports`` (where only root writes) is
  not imported at all.

It keeps an honest script from loading what somebody put in its way. It is no sandbox for the script itself.
"""

import sys


def _launch(stream, path, prefix, imports, trees):
    import _frozen_importlib_external as external
    import os

    source = stream.read()
    stream.close()
    os.close(3)
    of_root = (*sys.path, *imports)
    cached = external.cache_from_source
    sourceless = external.SourcelessFileLoader.get_code

    def inside(file, folders):
        return any(file == folder or file.startswith(folder + "/") for folder in folders)

    def verified(file):
        file = os.path.normpath(file)
        if inside(file, trees):
            return True
        if inside(file, of_root):
            return False
        raise ImportError(
            f"{file} lies outside of what was registered with {path}; if it belongs to it: "
            f"keychain-auth register --script {path} --tree {os.path.dirname(file)}"
        )

    def cache_from_source(file, *words, **names):
        if verified(file):
            raise NotImplementedError  # then importlib compiles the source, and writes nothing (SourceLoader.get_code)
        return cached(file, *words, **names)

    def get_code(self, name):
        verified(self.path)
        return sourceless(self, name)

    sys.pycache_prefix = None
    external.cache_from_source = cache_from_source
    external.SourcelessFileLoader.get_code = get_code

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

    shown = sys.excepthook
    code = compile(source, path, "exec", dont_inherit=True)

    def excepthook(kind, error, traceback):
        """As without us: a traceback begins at the script."""
        inner = traceback
        while inner is not None and inner.tb_frame.f_code is not code:
            inner = inner.tb_next
        shown(kind, error.with_traceback(inner or traceback), inner or traceback)

    sys.excepthook = excepthook
    sys.argv[:] = sys.argv[1:]
    main = sys.modules["__main__"].__dict__
    for name in ("f", "_launch", "sys", "__doc__"):
        main.pop(name, None)
    main.update(__file__=path, __doc__=None, __loader__=external.SourceFileLoader("__main__", path))
    exec(code, main)

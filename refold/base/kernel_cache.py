"""Keeps compiled kernels between processes: a file per kernel, signature and machine, checked before it is run.

numba's own cache runs what its files hold, so that a flipped bit ends the process or gives wrong rows, and whoever can
write to its folder runs code as this user. Here a file begins with a sum of its name and content, folder and file must
belong to this user with no right for others to write, and no Python source or `.pyc` is kept. Whatever fails a check is
compiled again; several processes may do so at once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

_log = logging.getLogger(__name__)
_SUM_SIZE_BYTES = hashlib.sha256().digest_size
_SUFFIX = ".kernel"


def compiled(source: str) -> Callable[..., int]:
    """The compiled `fold` of a generated module, which declares its `signature`; loaded where it was compiled before.

    Raises:
        NumbaError: numba refuses the source.
    """
    identity = source.encode()
    # What numba stores names the module that it belongs to, and cannot be loaded unless that is imported.
    module = ModuleType(_stem("fold", identity).replace("-", "_"))
    sys.modules[module.__name__] = module
    exec(compile(source, f"<{module.__name__}>", "exec"), module.__dict__)
    fold = cached(module.fold, identity)
    fold.compile(module.signature)
    fold.disable_compile()
    result: Callable[..., int] = fold
    return result


def cached(function: Callable[..., Any], identity: bytes) -> Any:
    """numba's dispatcher of a function; `identity` differs wherever the function computes something else."""
    import numba  # noqa: PLC0415  # 0.4 s

    dispatcher: Any = numba.njit(nogil=True)(function)
    if dispatcher is not function:  # compiling is not switched off
        dispatcher._cache = _KernelCache(_stem(function.__name__, identity))
    return dispatcher


def identity_of(function: Callable[..., Any]) -> bytes:
    """What a function computes, as bytes: its code, and the functions and values outside it that it names."""
    assert isinstance(function, FunctionType)
    seen: dict[str, str] = {}
    _describe(function, seen)
    return repr(sorted(seen.items())).encode()


def is_kept(source: str) -> bool:
    """Whether the cache folder has an undamaged compiled kernel of this source."""
    try:
        kept = list(cache_folder().glob(kernel_files(source).name))
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        return False
    return any(_read(path) is not None for path in kept)


def kernel_files(source: str) -> Path:
    """The pattern of the files that hold the compiled kernel of this source."""
    return cache_folder() / f"{_stem('fold', source.encode())}-*{_SUFFIX}"


def cache_folder() -> Path:
    """The folder of compiled kernels: below NUMBA_CACHE_DIR where it is set, else in the user's own cache folder."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen) / "refold"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "refold" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "refold"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refold"


def unusable_because(folder: Path) -> str | None:
    """Why the cache folder cannot be used, as the end of a sentence; None where it can be used or created."""
    nearest = next(each for each in (folder, *folder.parents) if each.exists())
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    if nearest == folder and not _is_own(folder.stat()):
        return f"{folder} belongs to another user, or others may write to it"
    return None if os.access(nearest, os.W_OK) else f"{nearest} cannot be written"


class _KernelCache:
    """What numba's dispatcher asks for a compiled kernel, and gives it to (the methods of `numba.core.caching._Cache`).

    The cache is a convenience: where it cannot be read or written, compiling is right.
    """

    def __init__(self, stem: str) -> None:
        self._stem = stem

    @property
    def cache_path(self) -> str:
        """The folder, which numba shows in its statistics."""
        return str(cache_folder())

    def load_overload(self, signature: object, target: Any) -> Any:
        """The compiled kernel of a signature; None where no sound file holds it."""
        from numba.core.compiler import CompileResult  # noqa: PLC0415  # 0.4 s

        target.refresh()
        try:
            content = _read(self._path(signature, target.codegen()))
            rebuilt: Any = CompileResult._rebuild
            return None if content is None else rebuilt(target, *pickle.loads(content))
        except Exception as error:  # sound, and yet not to be loaded: compiling again is right whatever the cause
            _log.warning("A compiled kernel cannot be loaded and is compiled again: %s", error)
            return None

    def save_overload(self, signature: object, result: Any) -> None:
        """Keep a compiled kernel where that is possible."""
        from numba.core import serialize  # noqa: PLC0415  # 0.4 s

        dumps: Any = serialize.dumps
        if result.lifted or result.library.has_dynamic_globals:
            return
        try:
            _write(self._path(signature, result.library.codegen), dumps(result._reduce()))
        except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
            _log.debug("A compiled kernel is not kept: %s", error)

    def _path(self, signature: object, codegen: Any) -> Path:
        import llvmlite  # noqa: PLC0415  # 0.4 s, as numba
        import numba  # noqa: PLC0415
        import numpy as np  # noqa: PLC0415

        versions = (sys.implementation.cache_tag, numba.__version__, llvmlite.__version__, np.__version__)
        machine = repr((str(signature), codegen.magic_tuple(), versions))
        return cache_folder() / f"{self._stem}-{hashlib.sha256(machine.encode()).hexdigest()[:16]}{_SUFFIX}"


def _stem(name: str, identity: bytes) -> str:
    return f"{name.strip('_')}-{hashlib.sha256(identity).hexdigest()[:32]}"


def _read(path: Path) -> bytes | None:
    """The content of a file; None where it is missing, damaged, renamed, or could be another user's."""
    try:
        if not _is_own(path.parent.stat()):
            return None
        # The open file is checked, not its path: what is read is what was checked.
        with path.open("rb") as file:
            if not _is_own(os.fstat(file.fileno())):
                return None
            data = file.read()
    except OSError:
        return None
    content = data[_SUM_SIZE_BYTES:]
    return content if data[:_SUM_SIZE_BYTES] == _sum(path.name, content) else None


def _write(path: Path, content: bytes) -> None:
    """Write a file with its sum. Raises OSError where it cannot be written, or others may write to the folder."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not _is_own(path.parent.stat()):
        raise PermissionError(f"{path.parent} belongs to another user, or others may write to it")
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_sum(path.name, content) + content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sum(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + content).digest()


def _is_own(status: os.stat_result) -> bool:
    """Whether only this user can write to a file or folder."""
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)


def _describe(function: FunctionType, seen: dict[str, str]) -> None:
    place = f"{function.__module__}.{function.__qualname__}"
    if place in seen:
        return
    seen[place] = ""  # a function may call itself
    codes = list(_codes(function.__code__))
    values = {}
    for name in sorted({name for code in codes for name in code.co_names}):
        value = function.__globals__.get(name)
        if isinstance(value, FunctionType):
            _describe(value, seen)
            values[name] = f"{value.__module__}.{value.__qualname__}"
        elif value is not None:
            values[name] = value.__name__ if isinstance(value, ModuleType) else repr(value)
    bodies = [(code.co_code, [each for each in code.co_consts if not isinstance(each, CodeType)]) for code in codes]
    names = [(code.co_names, code.co_varnames) for code in codes]
    seen[place] = repr((bodies, names, function.__defaults__, values))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)
